"""msgpack on the wire: the only module that knows the library.

Decoding never trusts its input: size, depth and lengths are limited, extension types
are refused, and whatever is wrong raises one error type.
"""

from __future__ import annotations

from typing import Any

import msgpack

from schemas.errors import InvalidMessage

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 16
_LEAVES = frozenset({str, int, bool, float, bytes, type(None)})


def encode(value: object) -> bytes:
    """Pack plain data: maps, lists, strings, bytes, numbers, booleans, None.

    Raises:
        InvalidMessage: it is larger than ``MAX_BYTES``, or not plain data.
    """
    try:
        packed = msgpack.packb(value, use_bin_type=True)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidMessage(f"cannot be encoded: {error}") from error
    if not isinstance(packed, bytes) or len(packed) > MAX_BYTES:
        raise InvalidMessage(
            f"a message has at most {MAX_BYTES} bytes, got {len(packed or b'')}"
        )
    return packed


def decode(data: bytes) -> dict[str, object]:
    """Unpack one map with string keys.

    Raises:
        InvalidMessage: the bytes are too many, too deep, malformed, followed by
            others, use an extension type, or are no map.
    """
    if len(data) > MAX_BYTES:
        raise InvalidMessage(f"a message has at most {MAX_BYTES} bytes")
    try:
        value = msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            ext_hook=_refuse_extension,
        )
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise InvalidMessage(
            f"not a message: {error or type(error).__name__}"
        ) from error
    if not isinstance(value, dict):
        raise InvalidMessage(f"a message is a map, got {type(value).__name__}")
    _check_depth(value)
    return value


def _refuse_extension(code: int, data: bytes) -> object:
    raise ValueError(f"extension type {code} is not used here")


def _check_depth(value: dict[str, object]) -> None:
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH - 1):
        level = [
            child
            for item in level
            for child in (item.values() if type(item) is dict else item)
            if type(child) not in _LEAVES
        ]
        if not level:
            return
        if any(type(child) not in (dict, list) for child in level):
            raise InvalidMessage("timestamps are not used here")
    raise InvalidMessage(f"a message is at most {MAX_DEPTH} levels deep")
