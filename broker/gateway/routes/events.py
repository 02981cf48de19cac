"""Server-sent events: progress, lifecycle events and windows, as they happen."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, HTTPException, Query
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from broker.gateway.access import Role, needs
from broker.gateway.documents import problems
from broker.gateway.gateway import OurGateway
from broker.gateway.live import TYPES, Reader, Wanted, tell
from broker.gateway.refusals import NotFound
from broker.keys import ScopeKeys
from schemas.errors import ConfigError
from schemas.events import event_type
from schemas.names import check_scope, is_uid

router = APIRouter(tags=["events"], dependencies=[needs(Role.VIEWER)])

Types = Annotated[
    list[str] | None,
    Query(
        description="what to hear of, separated by commas: "
        + ", ".join(sorted(TYPES))
        + "; success, fail, abort and click for short. All by default",
        examples=[["success,fail,abort"]],
    ),
]
LastEventID = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        description="the id of the last event that was heard: those after it are told",
    ),
]

_AFTER = {True: re.compile(r"\d{1,20}-\d{1,20}"), False: re.compile(r"\d{1,20}")}
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def _types(types: Types = None) -> frozenset[str]:
    names = [name for one in types or [] for name in one.split(",") if name]
    return frozenset(map(_type, names)) or TYPES


def _type(name: str) -> str:
    if name in TYPES:
        return name
    try:
        return event_type(name)
    except ConfigError:
        known = ", ".join(sorted(TYPES))
        raise HTTPException(422, f"types={name!r}: there are {known}") from None


WantedTypes = Annotated[frozenset[str], Depends(_types)]


async def _reader(
    gateway: OurGateway,
    types: WantedTypes,
    last_event_id: LastEventID = None,
    scope: str | None = None,
    uid: str | None = None,
) -> AsyncIterator[Reader]:
    if scope is not None:
        check_scope(scope)
    _check_after(last_event_id, scope)
    if scope is not None and uid is not None:
        fetch = ScopeKeys(scope).fetch(uid).fetch
        if not is_uid(uid) or not await gateway.connection.ask("EXISTS", fetch):
            raise NotFound(f"no background fetch {uid!r} in scope {scope!r}")
    reader = await gateway.feed.join(Wanted(scope, uid, types))
    try:
        yield reader
    finally:
        await gateway.feed.leave(reader)


def _check_after(after: str | None, scope: str | None) -> None:
    if after and not _AFTER[scope is not None].fullmatch(after):
        of = "a scope" if scope is not None else "all scopes"
        raise HTTPException(
            422, f"Last-Event-ID {after!r} is not the id of an event of {of}"
        )


class EventStream(Response):
    """Bytes that readers share: FastAPI's own class encodes for each of them anew.

    And it keeps more for each, in tasks that pass them on.
    """

    media_type = "text/event-stream"

    def __init__(self, reader: Reader, stream: AsyncIterator[bytes]) -> None:
        self.status_code = 200
        self.background = None
        self._reader = reader
        self._stream = stream
        self.init_headers(_HEADERS)
        del self.headers["content-length"]

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the reader goes, or is to go."""
        start = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **start})
        watch = asyncio.create_task(self._watch(receive))
        try:
            async for chunk in self._stream:
                body = {"body": chunk, "more_body": True}
                await send({"type": "http.response.body", **body})
            await send({"type": "http.response.body", "body": b""})
        finally:
            watch.cancel()

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._reader.end("gone")


OurReader = Annotated[Reader, Depends(_reader)]


@router.get("/events", status_code=200, response_class=EventStream)
async def all_events(
    gateway: OurGateway, reader: OurReader, last_event_id: LastEventID = None
) -> EventStream:
    """Tell what happens to the fetches of all scopes."""
    return _told(gateway, reader, last_event_id)


@router.get("/scopes/{scope}/events", status_code=200, response_class=EventStream)
async def scope_events(
    scope: str,
    gateway: OurGateway,
    reader: OurReader,
    last_event_id: LastEventID = None,
) -> EventStream:
    """Tell what happens to the fetches of a scope."""
    return _told(gateway, reader, last_event_id)


@router.get(
    "/scopes/{scope}/fetches/{uid}/events",
    status_code=200,
    response_class=EventStream,
    responses=problems(NotFound),
)
async def fetch_events(
    scope: str,
    uid: str,
    gateway: OurGateway,
    reader: OurReader,
    last_event_id: LastEventID = None,
) -> EventStream:
    """Tell what happens to one fetch."""
    return _told(gateway, reader, last_event_id)


def _told(gateway: OurGateway, reader: Reader, after: str | None) -> EventStream:
    stream = tell(gateway.feed, gateway.connection, reader, after or None)
    return EventStream(reader, stream)
