"""The page of one background fetch: card, records, deliveries, what to do with it."""

from __future__ import annotations

import json
import shlex
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Header, Query, Request, Response

from broker.connection import Connection
from broker.delivery_looks import look_at_deliveries
from broker.gateway.access import Role, needs
from broker.gateway.gateway import OurGateway, OurManager
from broker.gateway.pages.cards import Sample
from broker.gateway.pages.catalogue import cards
from broker.gateway.pages.rendering import PageRoute, render
from broker.gateway.refusals import NotFound
from broker.icons import HEADERS
from broker.keys import FetchKeys
from broker.manager import BackgroundFetchManager
from broker.plain import as_plain
from broker.records import RecordLook, RecordReader
from broker.registration import BackgroundFetchRegistration
from broker.timeline import timeline
from schemas.errors import InvalidState
from schemas.fetches import FetchState
from schemas.requests import Request as RecordRequest

ICON_PATIENCE = timedelta(milliseconds=500)
"""How long an answer waits for an icon that is being fetched."""
RECORDS = 50
"""Records on a page: a fetch may have a hundred thousand."""
EMPTY = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
NOT_HERE = {**HEADERS, "Cache-Control": "private, max-age=5"}

router = APIRouter(
    prefix="/fetches/{scope}/{uid}",
    route_class=PageRoute,
    dependencies=[needs(Role.VIEWER)],
)


async def found(
    manager: BackgroundFetchManager, uid: str
) -> BackgroundFetchRegistration:
    """Return the fetch that a page is about.

    Raises:
        NotFound: it is not, or no longer, retained.
    """
    registration = await manager.lookup(uid)
    if registration is None:
        raise NotFound(f"no background fetch {uid!r} in scope {manager.scope!r}")
    return registration


@router.get("")
async def show_fetch(
    request: Request,
    uid: str,
    gateway: OurGateway,
    manager: OurManager,
    start: Annotated[int, Query(alias="from", ge=0)] = 0,
    clicked: Annotated[str, Query(max_length=100)] = "",
    seen: Annotated[str, Query(pattern=r"^(\d{1,20}-\d{1,15})?$")] = "",
) -> Response:
    """Show one fetch.

    ``clicked`` names the click whose window is looked for; ``seen`` is what the page
    showed before: ``<bytes>-<ms>``.
    """
    registration = await found(manager, uid)
    state, keys = registration.state, FetchKeys(manager.scope, uid)
    [card] = await cards(gateway, [state])
    if seen:
        card = replace(card, before=Sample(*map(int, seen.split("-"))))
    return await render(
        request,
        "fetch.html",
        card=card,
        records=await _records(gateway.shared.reader, keys, start),
        start=start,
        page=RECORDS,
        deliveries=await look_at_deliveries(gateway.connection, gateway.settings, keys),
        moments=await timeline(gateway.connection, keys),
        clicked=clicked,
        window=await _window(gateway.connection, keys, clicked) if clicked else "",
        raw=json.dumps(as_plain(state), indent=2, ensure_ascii=False),
        commands=_commands(state, str(request.base_url)),
    )


async def _records(
    reader: RecordReader, keys: FetchKeys, start: int
) -> list[tuple[RecordRequest, RecordLook]]:
    with suppress(InvalidState):
        return await reader.page(keys, start, RECORDS)
    return []  # they are released


@router.get("/icon")
async def show_icon(
    uid: str,
    gateway: OurGateway,
    manager: OurManager,
    if_none_match: Annotated[str, Header()] = "",
) -> Response:
    """Send the icon of a fetch, or an empty one while it is not here (BF-DISP-05)."""
    state = (await found(manager, uid)).state
    icon = await gateway.icons.of(state, wait=ICON_PATIENCE)
    if icon is None:
        return Response(EMPTY, 200, NOT_HERE, "image/svg+xml")
    headers = {**HEADERS, "ETag": f'"{icon.digest}"'}
    if headers["ETag"] in if_none_match:
        return Response(status_code=304, headers=headers)
    return Response(icon.body, 200, headers, icon.type)


async def _window(connection: Connection, keys: FetchKeys, event: str) -> str:
    """The URL of the window that a click opened; empty if none so far."""
    url: bytes | None = await connection.ask("HGET", keys.tokens, f"window:{event}")
    return "" if url is None else url.decode()


def _commands(state: FetchState, here: str) -> list[str]:
    """What to type in a shell to go on from here; the id may be any text."""
    address = f"{here}api/v1/scopes/{quote(state.scope)}/fetches/{state.uid}"
    return [
        shlex.join(("curl", address)),
        shlex.join(("bgfetch", "get", state.id, "--scope", state.scope)),
        shlex.join(("bgfetch", "watch", state.id, "--scope", state.scope)),
    ]
