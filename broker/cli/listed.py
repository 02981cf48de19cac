"""``bgfetch list``: which fetches there are, and those among many that match."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.exits import ExitCode
from broker.cli.many import FilterText, StateName, asked
from broker.cli.options import JSON, RedisURL, ScopeName
from broker.cli.output import is_terminal, outcome, put_json, say, table
from broker.cli.running import in_scope
from broker.cli.show import fetch_as_json
from broker.plain import iso
from broker.quantities import shown_duration, shown_size
from schemas.queries import FetchFilter

if TYPE_CHECKING:
    from broker.manager import BackgroundFetchManager
    from schemas.fetches import FetchState

COLUMNS = ("id", "state", "downloaded", "total", "created", "title")


def list_(
    all: Annotated[
        bool, typer.Option("--all", "-a", help="ended ones too, newest first")
    ] = False,
    filter: FilterText = None,
    state: StateName = None,
    limit: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="with --all, --filter or --state: at most so many"
        ),
    ] = 100,
    cursor: Annotated[
        str | None, typer.Option(metavar="CURSOR", help="the page that follows")
    ] = None,
    scope: ScopeName = "default",
    redis_url: RedisURL = None,
    json: JSON = False,
) -> int:
    """List the active fetches, oldest first.

    With --filter or --state those that match, ended ones too, newest first. A search
    looks at ten thousand at a time, and says how to go on.
    """
    wanted = asked(filter, state, scope)
    if wanted is None and all:
        wanted = FetchFilter(scope=scope)
    look = partial(_look, wanted, limit, cursor)
    states, reasons = in_scope(scope, redis_url, look)
    if json:
        put_json([fetch_as_json(each, reasons) for each in states])
    elif states or not is_terminal():
        table(COLUMNS, [_row(each) for each in states])
    elif wanted is None:
        say("no active fetches")
    else:
        say(f"no fetches that match {str(wanted)!r}")
    return ExitCode.OK


async def _look(
    wanted: FetchFilter | None,
    limit: int,
    cursor: str | None,
    manager: BackgroundFetchManager,
) -> tuple[list[FetchState], Mapping[str, str]]:
    from broker.places import waiting

    if wanted is None:
        states = await _active(manager)
    else:
        states = await _matching(wanted, limit, cursor, manager)
    return states, await waiting(manager.connection, manager.settings, states)


async def _active(manager: BackgroundFetchManager) -> list[FetchState]:
    found = await asyncio.gather(*map(manager.get, await manager.get_ids()))
    return [registration.state for registration in found if registration is not None]


async def _matching(
    wanted: FetchFilter,
    limit: int,
    cursor: str | None,
    manager: BackgroundFetchManager,
) -> list[FetchState]:
    from broker.listing import Listing

    listing = Listing(manager.connection, manager.settings)
    page = await listing.page(filter=wanted, limit=limit, cursor=cursor)
    if page.cursor is not None:
        say(f"there are more: --cursor {page.cursor}")
    return list(page.items)


def _row(state: FetchState) -> tuple[str, ...]:
    if not is_terminal():
        numbers = str(state.downloaded), str(state.download_total)
        created = iso(state.created_at) or ""
    else:
        total = shown_size(state.download_total) if state.download_total else ""
        numbers = shown_size(state.downloaded), total
        age = timedelta(seconds=max(0.0, time.time() - state.created_at / 1000))
        created = f"{shown_duration(age)} ago"
    return (state.id, outcome(state), *numbers, created, state.title)
