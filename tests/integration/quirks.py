"""An origin of one file that answers ranges, and any of them otherwise if told to."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Self

from tests.integration.wire import Scripted

_RANGE = re.compile(rb"\r\nrange: bytes=(\d+)-(\d*)\r\n", re.IGNORECASE)
_SLICE = 8 * 1024


@dataclass(slots=True)
class Reply:
    """An answer, before it is sent; a header that is None is left out."""

    number: int
    """How many requests with a ``Range`` have come: 0 for one without."""
    first: int
    status: int
    body: bytes
    headers: dict[str, str | None]
    cut: int | None = None
    """The connection breaks after so many bytes of the body."""
    gate: asyncio.Event | None = None
    """What is waited for after ``gate_after`` bytes of the body."""
    gate_after: int = 0


def tag_of(body: bytes) -> str:
    """The ETag of a body."""
    return f'"{sha256(body).hexdigest()[:16]}"'


@dataclass(slots=True)
class Quirky:
    """Serves ``body`` at any path; ``quirk`` changes answers.

    An answer to a request without a ``Range`` stays where it is after ``held`` bytes
    until so many requests with one have come as ``waits_for`` says.
    """

    body: bytes
    quirk: Callable[[Reply], object] = lambda reply: None
    waits_for: int = 3
    held: int = 64 * 1024
    ranges: list[tuple[int, int]] = field(default_factory=list)
    """What was asked for, each up to just before its end."""
    plain: int = 0
    """How many requests came without a ``Range``."""
    most: int = 0
    """How many answers were on their way at a time, at most."""
    enough: asyncio.Event = field(default_factory=asyncio.Event)
    _now: int = 0

    async def __aenter__(self) -> Self:
        self._server = await Scripted(self._serve).__aenter__()
        self.url = self._server.url
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.__aexit__(*_)

    _server: Scripted = field(init=False)
    url: str = field(init=False)

    def asked_to_the_end(self) -> bool:
        """Whether the last byte was asked for in a range."""
        return any(end == len(self.body) for _, end in self.ranges)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            self._now += 1
            self.most = max(self.most, self._now)
            try:
                await self._answer(head, writer)
            finally:
                self._now -= 1

    async def _answer(self, head: bytes, writer: asyncio.StreamWriter) -> None:
        reply = self._choose(head)
        self.quirk(reply)
        lines = [f"HTTP/1.1 {reply.status} X"]
        rows = {"Content-Length": str(len(reply.body)), **reply.headers}
        lines += [f"{name}: {value}" for name, value in rows.items() if value]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        for at in range(0, len(reply.body), _SLICE):
            if reply.gate is not None and at >= reply.gate_after:
                await reply.gate.wait()
            if reply.cut is not None and at >= reply.cut:
                writer.transport.abort()
                raise ConnectionAbortedError
            writer.write(reply.body[at : at + _SLICE])
            await writer.drain()

    def _choose(self, head: bytes) -> Reply:
        body, tag = self.body, tag_of(self.body)
        found = _RANGE.search(head)
        headers: dict[str, str | None] = {"ETag": tag}
        if found is None:
            self.plain += 1
            gate = self.enough if self.waits_for else None
            return Reply(0, 0, 200, body, headers, gate=gate, gate_after=self.held)
        first = int(found[1])
        end = int(found[2]) + 1 if found[2] else len(body)
        self.ranges.append((first, end))
        if len(self.ranges) >= self.waits_for:
            self.enough.set()
        number = len(self.ranges)
        if tag.encode() not in head:  # If-Range names another version
            return Reply(number, 0, 200, body, headers)
        headers["Content-Range"] = f"bytes {first}-{end - 1}/{len(body)}"
        return Reply(number, first, 206, body[first:end], headers)
