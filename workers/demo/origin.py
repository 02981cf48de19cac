"""A small real HTTP/1.1 origin on loopback, for the demo and for tests.

It answers ranges as RFC 9110 asks, and misbehaves on request: slow, cut short, failing
first, or held at a byte until an event is set, so that tests need not sleep.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import ssl
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Self

from workers.demo.listener import Listener

_SLICE = 64 * 1024
_PACE = 0.02
"""Seconds between two slices of a body whose rate is limited."""
_RANGE = re.compile(r"bytes=([0-9]*)-([0-9]*)", re.ASCII)
_BODILESS = (204, 304)


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it arrived; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class _Resource:
    body: bytes
    etag: str
    last_modified: str | None
    headers: Mapping[str, str]
    rate: float | None
    cuts: list[int]
    failures: list[tuple[int, Mapping[str, str]]]
    status: int
    delay_head: float
    hold: asyncio.Event | None
    hold_after: int | None


@dataclass(slots=True)
class _Answer:
    status: int
    headers: dict[str, str]
    body: bytes = b""
    cut: int | None = None


class Origin:
    """Serves what was added, on a free port of 127.0.0.1, until it is left.

    Each request is noted in ``log`` before it is answered.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.log: list[Seen] = []
        self.connections = 0
        """Connections accepted so far."""
        self._tls = tls
        self._resources: dict[str, _Resource] = {}
        self._listener = Listener(self._serve)
        self._authority = ""

    async def __aenter__(self) -> Self:
        self._authority = f"127.0.0.1:{await self._listener.start(tls=self._tls)}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._listener.aclose()

    def url(self, path: str) -> str:
        """The URL of a path."""
        scheme = "https" if self._tls else "http"
        return f"{scheme}://{self._authority}{path}"

    def add(
        self,
        path: str,
        body: bytes,
        *,
        etag: str | None = None,
        last_modified: str | None = None,
        headers: Mapping[str, str] | None = None,
        rate: float | None = None,
        cut_after: Iterable[int] = (),
        fail_first: Iterable[tuple[int, Mapping[str, str]]] = (),
        status: int = 200,
        delay_head: float = 0.0,
        hold: asyncio.Event | None = None,
        hold_after: int | None = None,
    ) -> None:
        """Serve ``body`` at ``path``.

        ``etag``: made from the content if None, left out if empty. ``rate``: bytes a
        second. ``cut_after``: the connection breaks after so many bytes of the body of
        the first, the second… answer. ``fail_first``: statuses and headers of the first
        answers. ``delay_head``: seconds. ``hold``: awaited after ``hold_after`` bytes
        of each body, by default half of it.
        """
        self._resources[path] = _Resource(
            body,
            _tag(body) if etag is None else etag,
            last_modified,
            headers or {},
            rate,
            list(cut_after),
            list(fail_first),
            status,
            delay_head,
            hold,
            hold_after,
        )

    def replace(self, path: str, body: bytes) -> None:
        """Serve another body from now on, under the ETag that is made from it.

        Answers under way go on with the old one.
        """
        self._resources[path].body = body
        self._resources[path].etag = _tag(body)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.connections += 1
        with suppress(asyncio.LimitOverrunError):  # what never ends is not HTTP
            while await self._answer(reader, writer):
                pass

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer one request; True if the connection goes on."""
        seen = await _read_request(reader, writer)
        self.log.append(seen)
        resource = self._find(seen.path)
        if resource is None:
            answer = _Answer(404, {"Content-Length": "0"})
        else:
            await asyncio.sleep(resource.delay_head)
            answer = _choose(seen, resource)
        lines = [f"HTTP/1.1 {answer.status} {_phrase(answer.status)}"]
        lines += [f"{name}: {value}" for name, value in answer.headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        if resource is not None and seen.method != "HEAD":
            await _send_body(writer, answer, resource)
        await writer.drain()
        return answer.cut is None and seen.headers.get("connection") != "close"

    def _find(self, path: str) -> _Resource | None:
        return self._resources.get(path) or self._resources.get(path.partition("?")[0])


async def _read_request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> Seen:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    request, *rows = head.split("\r\n")[:-2]
    method, path, _ = request.split(" ", 2)
    pairs = [row.partition(":")[::2] for row in rows]
    headers = {name.lower(): value.strip() for name, value in pairs}
    if "expect" in headers:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Seen(method, path, headers, body)


def _choose(seen: Seen, resource: _Resource) -> _Answer:
    if resource.failures:
        status, headers = resource.failures.pop(0)
        return _Answer(status, {"Content-Length": "0", **headers})
    headers = {"Accept-Ranges": "bytes"}
    if resource.etag:
        headers["ETag"] = resource.etag
    if resource.last_modified:
        headers["Last-Modified"] = resource.last_modified
    answer = _Answer(resource.status, headers, resource.body)
    if resource.status == 200 and seen.method == "GET":
        _apply_range(seen, resource, answer)
    if answer.status not in _BODILESS:
        headers["Content-Length"] = str(len(answer.body))
    headers.update(resource.headers)
    if resource.cuts and seen.method != "HEAD":
        answer.cut = resource.cuts.pop(0)
    return answer


def _apply_range(seen: Seen, resource: _Resource, answer: _Answer) -> None:
    """Make the answer a 206 or 416 if a range applies (RFC 9110 § 13.1.5, § 14.2)."""
    wanted = _RANGE.fullmatch(seen.headers.get("range", ""))
    condition = seen.headers.get("if-range")
    strong = {resource.etag, resource.last_modified} - {None, ""}
    if condition is not None and (condition not in strong or condition[:2] == "W/"):
        return
    if wanted is None or not (wanted[1] or wanted[2]):
        return
    size = len(resource.body)
    first = int(wanted[1]) if wanted[1] else max(0, size - int(wanted[2]))
    last = min(int(wanted[2]), size - 1) if wanted[1] and wanted[2] else size - 1
    if first >= size:
        answer.status, answer.body = 416, b""
        answer.headers["Content-Range"] = f"bytes */{size}"
    elif first <= last:
        answer.status, answer.body = 206, resource.body[first : last + 1]
        answer.headers["Content-Range"] = f"bytes {first}-{last}/{size}"


async def _send_body(
    writer: asyncio.StreamWriter, answer: _Answer, resource: _Resource
) -> None:
    body = answer.body if answer.cut is None else answer.body[: answer.cut]
    held = len(body)
    if resource.hold is not None:
        after = resource.hold_after
        held = len(answer.body) // 2 if after is None else after
    step = _SLICE if resource.rate is None else max(1, int(resource.rate * _PACE))
    at = 0
    while at < len(body):
        if resource.hold is not None and at >= held:
            await resource.hold.wait()
        end = at + step if at >= held else min(at + step, held)
        writer.write(body[at:end])
        await writer.drain()
        at = end
        if resource.rate is not None:
            await asyncio.sleep(_PACE)


def _tag(body: bytes) -> str:
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def _phrase(status: int) -> str:
    with suppress(ValueError):
        return HTTPStatus(status).phrase
    return ""
