"""Content codings, undone while a body is read (RFC 9110 § 8.4.1).

Bodies are stored as they were sent. What an origin may make of a reader is bounded: one
coding, blocks of ``BLOCK`` bytes, and limits on how large a body may become.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from anyio import to_thread

from schemas.errors import UndecodableBody
from schemas.records import ResponseHead

BLOCK = 1024 * 1024
"""Decoded bytes that are handed over at a time, at most."""
FREE = 1024 * 1024
"""Decoded bytes to which the ratio does not apply: small bodies of zeros are common."""
# Bytes decoded between two looks at the limits. A member may be as short as 20 bytes,
# and each copies what follows it.
_SLICE = 16 * 1024
_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS
_NAMES = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate"}


@dataclass(frozen=True, slots=True)
class DecodingLimits:
    """How large a decoded body may become."""

    size: int
    """In bytes."""
    ratio: int
    """In bytes for each byte that was sent, beyond the first ``FREE``."""


def decoder_of(head: ResponseHead, limits: DecodingLimits) -> Decoder | None:
    """Return what undoes the coding of a body, or None if it has none.

    Raises:
        UndecodableBody: the coding is unknown, or there are several.
    """
    listed = ",".join(head.get_all("Content-Encoding")).lower().split(",")
    codings = [name for name in map(str.strip, listed) if name not in ("", "identity")]
    if not codings:
        return None
    if len(codings) > 1:
        raise _undecodable(head.url, f"has {len(codings)} content codings, not one")
    name = _NAMES.get(codings[0])
    if name is None:
        raise _undecodable(head.url, f"has the unknown content coding {codings[0]!r}")
    return Decoder(name, head.url, limits)


async def decoded(decoder: Decoder | None, block: bytes) -> AsyncIterator[bytes]:
    """Yield what one more block of stored bytes brings, decoding in a thread."""
    if decoder is None:
        yield block
        return
    pieces = decoder.decode(block)
    while piece := await to_thread.run_sync(next, pieces, b""):
        yield piece


class Decoder:
    """Undoes gzip, of one member or several, or deflate; one body, in order.

    Memory does not depend on what the bytes decode to. No method may be called while
    another one, or an iterator that one has returned, is at work.
    """

    def __init__(self, coding: str, url: str, limits: DecodingLimits) -> None:
        self._coding = coding
        self._url = url
        self._limits = limits
        self._taken = 0
        self._given = 0
        self._head = b""
        self._stream: zlib._Decompress | None = None

    def decode(self, data: bytes) -> Iterator[bytes]:
        """Yield what the next bytes decode to, in blocks that are never empty.

        Raises:
            UndecodableBody: they are not of this coding, or the body grows too large.
        """
        for at in range(0, len(data), _SLICE):
            piece = data[at : at + _SLICE]
            self._taken += len(piece)
            yield from self._decode(piece)

    def finish(self) -> None:
        """Tell that the body has ended. An empty one needs no coding.

        Raises:
            UndecodableBody: the coded bytes end too early.
        """
        if self._taken and not (self._stream is not None and self._stream.eof):
            raise self._refuse(f"ends before its {self._coding} does")

    def _decode(self, rest: bytes) -> Iterator[bytes]:
        full = False
        while rest or full:
            if self._stream is None or self._stream.eof:
                rest = self._begin(rest)
            stream = self._stream
            if stream is None or not (rest or full):
                return
            try:
                block = stream.decompress(rest, BLOCK)
            except zlib.error as error:
                raise self._refuse(f"is not {self._coding}: {error}") from error
            rest = stream.unused_data if stream.eof else stream.unconsumed_tail
            # zlib may have taken all bytes and still hold some of what they say.
            full = len(block) == BLOCK and not stream.eof
            if block:
                self._count(len(block))
                yield block

    def _begin(self, rest: bytes) -> bytes:
        """Begin a stream with ``rest``, or keep it until there is enough to do so."""
        first = self._stream is None
        if self._coding == "gzip":
            # A tape or a file system may pad with zeros; a member never starts so.
            rest = rest if first else rest.lstrip(b"\0")
            if rest:
                self._stream = zlib.decompressobj(_GZIP)
            return rest
        if not first:
            raise self._refuse("goes on after the end of its deflate")
        rest, self._head = self._head + rest, b""
        if len(rest) < 2:
            self._head = rest
            return b""
        # Servers disagree on what "deflate" is; browsers take both (RFC 1950, 1951).
        wrapped = rest[0] & 0x0F == 8 and int.from_bytes(rest[:2], "big") % 31 == 0
        self._stream = zlib.decompressobj(_ZLIB if wrapped else _RAW)
        return rest

    def _count(self, size: int) -> None:
        self._given += size
        limits = self._limits
        if self._given > limits.size:
            setting = f"BGFETCH_MAX_DECODED={limits.size}"
            raise self._refuse(f"decodes to more bytes than {setting}")
        if self._given > max(FREE, self._taken * limits.ratio):
            setting = f"BGFETCH_MAX_DECODED_RATIO={limits.ratio}"
            raise self._refuse(f"decodes to more bytes for each than {setting}")

    def _refuse(self, what: str) -> UndecodableBody:
        return _undecodable(self._url, what)


def _undecodable(url: str, what: str) -> UndecodableBody:
    return UndecodableBody(f"the body of {url} {what}; read it raw to have it as sent")
