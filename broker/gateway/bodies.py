"""Bodies as answers: in whole or in part, whole or still arriving.

Stored bytes come from strangers. They are never run under the gateway's origin: sent to
be saved, unless a person asks to look, and then in a sandbox without any rights.
"""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from urllib.parse import quote

import structlog
from fastapi import Request
from starlette.datastructures import Headers
from starlette.responses import Response, StreamingResponse
from starlette.types import Send
from typing_extensions import override

from broker.filenames import safe_name
from broker.gateway.ranges import Span, is_known, span_of, still_holds
from schemas.errors import BackgroundFetchError

log = structlog.get_logger()

UNTYPED = "application/octet-stream"
SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-cache",
}
_TYPE = re.compile(r"[\w.+-]{1,100}/[\w.+-]{1,100}(\s*;[\x20-\x7e]{0,200})?", re.ASCII)
_QUOTED = re.compile(r'[^\x20-\x7e]|["\\%]')

Blocks = AsyncGenerator[bytes]


@dataclass(frozen=True, slots=True)
class Bytes:
    """A body that can be sent."""

    whole: Callable[[], Blocks]
    length: int | None = None
    """None where it is not known yet."""
    part: Callable[[int, int], Blocks] | None = None
    """Gives bytes from one offset to before another, where ranges are served."""
    tags: tuple[str, ...] = ()
    """Entity tags of these very bytes, the best first."""
    begun: bool = True
    """Whether there is a byte by now, or will never be one."""


async def send(request: Request, body: Bytes, headers: dict[str, str]) -> Response:
    """Answer with a body, as the request's headers ask for it.

    Raises:
        RangeNotSatisfiable: it has no such bytes.
        StorageError, BackgroundFetchError: the first byte cannot be read.
    """
    given, headers = request.headers, SAFE | headers
    headers["Accept-Ranges"] = "none" if body.part is None else "bytes"
    if body.tags:
        headers["ETag"] = body.tags[0]
    if is_known(given.get("if-none-match"), body.tags):
        return Response(status_code=304, headers=headers)
    status, length = 200, body.length
    span = _span(given, body)
    if span is not None:
        status, length = 206, span.end - span.start
        headers["Content-Range"] = span.content_range(body.length or 0)
    if length is not None:
        headers["Content-Length"] = str(length)
    if request.method == "HEAD":
        return _Head(status_code=status, headers=headers)
    if span is not None and body.part is not None:
        blocks = body.part(span.start, span.end)
    else:
        blocks = body.whole()
    return _Stream(await _begun(blocks, body), status, headers)


def _span(given: Headers, body: Bytes) -> Span | None:
    if body.part is None or body.length is None:
        return None
    if not still_holds(given.get("if-range"), body.tags):
        return None
    return span_of(given.get("range"), body.length)


def described(
    url: str, content_type: str | None, sha256: str, *, inline: bool
) -> dict[str, str]:
    """Return the headers that say what the bytes are, and what to do with them."""
    name = safe_name(url)
    plain = _QUOTED.sub("_", name)
    type_ = content_type if content_type and _TYPE.fullmatch(content_type) else UNTYPED
    headers = {
        "Content-Type": type_,
        "Content-Disposition": f"{'inline' if inline else 'attachment'}; "
        f"filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}",
    }
    if sha256:
        digest = base64.b64encode(bytes.fromhex(sha256)).decode()
        headers["Repr-Digest"] = f"sha-256=:{digest}:"
    return headers


async def _begun(blocks: Blocks, body: Bytes) -> Blocks:
    """Read the first block before anything is sent: its errors can still be told."""
    if not body.begun:
        return blocks
    first = await anext(blocks, b"")

    async def all_() -> Blocks:
        async with aclosing(blocks):
            yield first
            async for block in blocks:
                yield block

    return all_()


class _Head(Response):
    """Headers alone, those of the body included."""

    @override
    def init_headers(self, headers: object = None) -> None:
        assert isinstance(headers, dict)
        self.raw_headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in headers.items()
        ]


class _Stream(StreamingResponse):
    """A body that is cut off where it cannot go on: no end of it is told."""

    def __init__(self, blocks: Blocks, status: int, headers: dict[str, str]) -> None:
        super().__init__(blocks, status, headers, headers["Content-Type"])
        self._blocks = blocks

    @override
    async def stream_response(self, send: Send) -> None:
        async with aclosing(self._blocks):
            try:
                await super().stream_response(send)
            except BackgroundFetchError as error:
                log.warning("body_ended_early", error=str(error))
