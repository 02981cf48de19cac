"""HTTP/2 as an origin speaks it in tests, frame by frame (RFC 9113, RFC 7541).

Written by hand: a library would refuse to send what is to be tested.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from enum import IntEnum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
END_STREAM = 0x1
ACK = 0x1
END_HEADERS = 0x4
INITIAL_WINDOW_SIZE = 0x4
LARGEST = 16384
"""Bytes of a frame's payload, unless the peer takes more."""


class Kind(IntEnum):
    """The types of frames."""

    DATA = 0
    HEADERS = 1
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Code(IntEnum):
    """Some of the error codes."""

    NO_ERROR = 0
    INTERNAL_ERROR = 2
    REFUSED_STREAM = 7
    ENHANCE_YOUR_CALM = 11


def frame(kind: Kind, stream: int, payload: bytes = b"", flags: int = 0) -> bytes:
    """One frame, its payload as it is."""
    length = len(payload).to_bytes(3)
    return length + bytes((kind, flags)) + stream.to_bytes(4) + payload


def setting(identifier: int, value: int) -> bytes:
    """One setting in the payload of a SETTINGS frame."""
    return identifier.to_bytes(2) + value.to_bytes(4)


def fields(*pairs: tuple[str, str]) -> bytes:
    """A header block in which nothing is indexed (RFC 7541 § 6.2.2)."""
    return b"".join(
        b"\0" + _text(name.encode()) + _text(value.encode()) for name, value in pairs
    )


def indexed(name: str, value: str) -> bytes:
    """A field that goes into the dynamic table, as its entry 62 (§ 6.2.1)."""
    return b"\x40" + _text(name.encode()) + _text(value.encode())


def _text(data: bytes) -> bytes:
    return _number(len(data), 7) + data


def _number(value: int, prefix: int) -> bytes:
    most = (1 << prefix) - 1
    if value < most:
        return bytes((value,))
    value -= most
    found = bytearray((most,))
    while value >= 128:
        found.append(value % 128 + 128)
        value //= 128
    return bytes((*found, value))


def head(stream: int, *pairs: tuple[str, str], status: int = 200) -> bytes:
    """A response head in one frame."""
    block = fields((":status", str(status)), *pairs)
    return frame(Kind.HEADERS, stream, block, END_HEADERS)


def data(stream: int, chunk: bytes, *, end: bool = False) -> bytes:
    """Bytes of a body."""
    return frame(Kind.DATA, stream, chunk, END_STREAM if end else 0)


def reset(stream: int, code: Code) -> bytes:
    """The end of a stream that went wrong."""
    return frame(Kind.RST_STREAM, stream, code.to_bytes(4))


def goaway(last: int, code: Code) -> bytes:
    """The end of a connection, and the last stream that was looked at."""
    return frame(Kind.GOAWAY, 0, last.to_bytes(4) + code.to_bytes(4))


async def begin(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, settings: bytes = b""
) -> int:
    """Begin a connection and return the stream of its first request."""
    await reader.readexactly(len(PREFACE))
    writer.write(frame(Kind.SETTINGS, 0, settings))
    return await asked(reader, writer)


async def asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    """Return the stream of the next request; what comes before it is passed over."""
    while True:
        kind, flags, stream = await _next(reader)
        if kind == Kind.SETTINGS and not flags & ACK:
            writer.write(frame(Kind.SETTINGS, 0, flags=ACK))
        if kind == Kind.HEADERS:
            return stream


async def refused(reader: asyncio.StreamReader) -> None:
    """Return when the peer has ended a stream, or the connection."""
    with suppress(asyncio.IncompleteReadError):
        while (await _next(reader))[0] not in (Kind.RST_STREAM, Kind.GOAWAY):
            pass


async def _next(reader: asyncio.StreamReader) -> tuple[int, int, int]:
    prefix = await reader.readexactly(9)
    await reader.readexactly(int.from_bytes(prefix[:3]))
    return prefix[3], prefix[4], int.from_bytes(prefix[5:])
