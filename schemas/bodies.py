"""Request bodies: what may be given as one, and where a stored one is (§ fetch 8.8)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from typing import Protocol, TypeVar

from schemas.errors import InvalidRequest
from schemas.messages import Message

MAX_INLINE_BYTES = 64 * 1024
"""A larger body becomes a blob; others travel inside the request's own message."""

Data = bytes | bytearray | memoryview
_Read = TypeVar("_Read", bound=bytes, covariant=True)


class BinaryFile(Protocol[_Read]):
    """What is asked of a file that is sent: open for reading, and binary."""

    def read(self, size: int, /) -> _Read:
        """Return the next bytes, none at the end."""


Source = (
    bytes | os.PathLike[str] | BinaryFile[bytes] | AsyncIterable[Data] | Iterable[Data]
)
"""Where the bytes of a body come from."""


class StoredBody(Message):
    """The blob that holds a body; the store keeps it as long as the records (R16)."""

    store: str
    name: str
    length: int
    sha256: str


class BodyStream:
    """A body that ``fetch()`` reads to its end and stores before it returns.

    A path is opened then; everything else is used up by it, and sent once. The body of
    a record's ``request`` may be iterated instead: by ``async for``, or, where there is
    no event loop, by ``for``.
    """

    __slots__ = ("_source", "used")

    def __init__(self, source: Source) -> None:
        self.used = False
        self._source = source

    def take(self) -> Source:
        """Return the source to whoever reads it now.

        Raises:
            InvalidRequest: it is used up.
        """
        self.check()
        self.used = not isinstance(self._source, os.PathLike)
        return self._source

    def check(self) -> None:
        """See that the body can still be read (BF-FETCH-02).

        Raises:
            InvalidRequest: it is used up.
        """
        if self.used:
            raise InvalidRequest("this body was read before: a stream is sent once")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        source = self.take()
        if not isinstance(source, AsyncIterable):
            raise InvalidRequest(f"{source!r} is not asynchronous: read it itself")
        async for chunk in source:
            yield bytes(chunk)

    def __iter__(self) -> Iterator[bytes]:
        source = self.take()
        if not isinstance(source, Iterator):
            raise InvalidRequest(f"{source!r} is no iterator: read it itself")
        for chunk in source:
            yield bytes(chunk)


Body = str | Data | Source | BodyStream | StoredBody
"""What may be given as the body of a request; text is sent as UTF-8."""


def check_body(body: Body, method: str) -> tuple[bytes | BodyStream | StoredBody, str]:
    """Return a body in one of its three forms, and the Content-Type that it implies.

    Raises:
        InvalidRequest: it is none, it is used up, or the method has no body.
    """
    if method in ("GET", "HEAD"):
        raise InvalidRequest(f"a {method} request has no body")
    match body:
        case str():
            return body.encode("utf-8", "replace"), "text/plain;charset=UTF-8"
        case bytes() | bytearray() | memoryview():
            return bytes(body), ""
        case StoredBody():
            return body, ""
        case BodyStream():
            body.check()
            return body, ""
    if isinstance(body, Mapping) or not _can_be_read(body):
        raise InvalidRequest(
            "a body is bytes, text, a path, a binary file or an iterable of bytes, "
            f"got {type(body).__name__}"
        )
    return BodyStream(body), ""


def _can_be_read(body: object) -> bool:
    kinds = (os.PathLike, AsyncIterable, Iterable)
    return isinstance(body, kinds) or callable(getattr(body, "read", None))
