"""The body of a request: JSON of bounded size, or JSON with files behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broker.gateway.multipart import Multipart, Part
from broker.gateway.refusals import ContentTooLarge, WrongForm

FORM = "multipart/form-data"
FIRST_PART = "fetch"
"""The part that has the JSON, and comes first."""


@dataclass(frozen=True, slots=True)
class Content:
    """What was sent: JSON, and files that are read as they arrive."""

    json: bytes
    files: Multipart | None = None

    async def file(self, name: str) -> AsyncIterator[bytes]:
        """Yield the bytes of the part that comes next.

        Raises:
            WrongForm: it has another name, or there is none.
        """
        part = await self.files.next() if self.files is not None else None
        if part is None or part.name != name:
            found = "there is none" if part is None else f"{part.name!r} is"
            raise WrongForm(
                f"a body is in part {name!r}, and where it should follow {found}: "
                "send a part for each, in the order of the requests that name them"
            )
        async for chunk in part:
            yield chunk


async def content_of(request: Request, limit: int) -> Content:
    """Return what was sent, read as far as its JSON; once for each request.

    Raises:
        WrongForm: it is no form, or its first part is another one.
        ContentTooLarge: the JSON has more than ``limit`` bytes.
    """
    kept = getattr(request.state, "content", None)
    if not isinstance(kept, Content):
        kept = request.state.content = await _read(request, limit)
    return kept


async def _read(request: Request, limit: int) -> Content:
    if not is_form(request.headers.get("content-type", "")):
        return Content(await request.body())
    files = Multipart.of(request.headers["content-type"], request.stream())
    first = await files.next()
    if first is None or first.name != FIRST_PART:
        found = "there is none" if first is None else f"it is {first.name!r}"
        raise WrongForm(f"the first part must be {FIRST_PART!r}, with JSON: {found}")
    return Content(await _whole(first, limit), files)


async def _whole(part: Part, limit: int) -> bytes:
    held = bytearray()
    async for chunk in part:
        held += chunk
        if len(held) > limit:
            raise _too_large(limit)
    return bytes(held)


def is_form(content_type: str) -> bool:
    """Whether a body with this type has parts."""
    return content_type.partition(";")[0].strip().lower() == FORM


class LimitedBodies:
    """Refuses to read more than so many bytes of a body, files in parts apart."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            if not is_form(headers.get(b"content-type", b"").decode("latin-1")):
                receive = self._limited(receive, headers.get(b"content-length", b""))
        await self._app(scope, receive, send)

    def _limited(self, receive: Receive, announced: bytes) -> Receive:
        taken = int(announced) if announced.isdigit() else 0
        counted = not taken

        async def limited() -> Message:
            nonlocal taken
            if taken > self._limit:
                raise _too_large(self._limit)
            message = await receive()
            if counted and message["type"] == "http.request":
                taken += len(message.get("body", b""))
                if taken > self._limit:
                    raise _too_large(self._limit)
            return message

        return limited


def _too_large(limit: int) -> ContentTooLarge:
    return ContentTooLarge(
        f"the JSON has more than {limit} bytes, which is BGFETCH_MAX_JSON: send fewer "
        "requests at a time, and large bodies as parts of a form"
    )
