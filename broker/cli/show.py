"""``bgfetch list``, ``get`` and ``watch``: what there is, and how it is getting on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli.exits import ExitCode
from broker.cli.options import JSON, FetchId, RedisURL, ScopeName, WaitTimeout
from broker.cli.output import (
    amount,
    is_terminal,
    outcome,
    put,
    put_json,
    say,
    table,
)
from broker.cli.quantities import seconds, shown_duration, shown_size
from broker.cli.running import first_of, in_scope
from broker.plain import as_plain, iso

if TYPE_CHECKING:
    from broker.manager import BackgroundFetchManager
    from broker.registration import BackgroundFetchRegistration
    from schemas.fetches import FetchState

COLUMNS = ("id", "state", "downloaded", "total", "created", "title")


def list_(
    all: Annotated[
        bool, typer.Option("--all", "-a", help="ended ones too, newest first")
    ] = False,
    limit: Annotated[
        int, typer.Option(min=1, metavar="N", help="with --all: at most so many")
    ] = 100,
    cursor: Annotated[
        str | None,
        typer.Option(metavar="CURSOR", help="with --all: the page that follows"),
    ] = None,
    scope: ScopeName = "default",
    redis_url: RedisURL = None,
    json: JSON = False,
) -> int:
    """List the active fetches, oldest first."""
    look = partial(_history, limit, cursor) if all else _active
    states, reasons = in_scope(scope, redis_url, partial(_with_reasons, look))
    if json:
        put_json([_as_json(state, reasons) for state in states])
    elif states or not is_terminal():
        table(COLUMNS, [_row(state) for state in states])
    else:
        say(f"no fetches in scope {scope!r}" if all else "no active fetches")
    return ExitCode.OK


async def _with_reasons(
    look: Callable[[BackgroundFetchManager], Awaitable[list[FetchState]]],
    manager: BackgroundFetchManager,
) -> tuple[list[FetchState], Mapping[str, str]]:
    from broker.places import waiting

    states = await look(manager)
    return states, await waiting(manager.connection, manager.settings, states)


def _as_json(state: FetchState, reasons: Mapping[str, str]) -> dict[str, Any]:
    return as_plain(state) | {"waiting": reasons.get(state.uid, "")}


async def _history(
    limit: int, cursor: str | None, manager: BackgroundFetchManager
) -> list[FetchState]:
    page = await manager.history_page(limit=limit, cursor=cursor)
    if page.cursor is not None:
        say(f"there are more: --cursor {page.cursor}")
    return list(page.items)


async def _active(manager: BackgroundFetchManager) -> list[FetchState]:
    found = await asyncio.gather(*map(manager.get, await manager.get_ids()))
    return [registration.state for registration in found if registration is not None]


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


def get(
    id: FetchId,
    scope: ScopeName = "default",
    redis_url: RedisURL = None,
    json: JSON = False,
) -> int:
    """Show a fetch, ended or not, and its records.

    Of several with this id it is the newest.
    """
    return in_scope(scope, redis_url, partial(_get, id, json))


async def _get(id: str, json: bool, manager: BackgroundFetchManager) -> int:
    from broker.cli.origins import reasons_to_wait
    from broker.cli.records import records_of
    from broker.places import waiting

    registration = await found(manager, id)
    if registration is None:
        return ExitCode.NO
    records = await records_of(manager, registration)
    state = registration.state
    reasons = await waiting(manager.connection, manager.settings, [state])
    origins = await reasons_to_wait(manager, records)
    if json:
        rows = [
            record.as_json() | {"waitsFor": record.waits_for(origins)}
            for record in records
        ]
        put_json(_as_json(state, reasons) | {"recordList": rows})
        return ExitCode.OK
    for line in _described(state, reasons.get(state.uid, "")):
        put(line)
    rows_ = [
        (
            str(record.result) or "open",
            str(record.status or ""),
            amount(record.look.stored, record.length),
            record.url,
            record.look.state.detail or record.waits_for(origins),
        )
        for record in records
    ]
    if rows_:
        table(("result", "status", "bytes", "URL", "reason"), rows_)
    return ExitCode.OK


def _described(state: FetchState, waiting: str) -> list[str]:
    from schemas.urls import origin_of

    told = {
        "id": state.id,
        "uid": state.uid,
        "scope": f"{state.scope}, {origin_of(state.base_url)}",
        "title": state.title,
        "state": f"{outcome(state)}, {waiting}" if waiting else outcome(state),
        "downloaded": amount(state.downloaded, state.download_total),
        "uploaded": amount(state.uploaded, state.upload_total),
        "created": iso(state.created_at),
        "settled": iso(state.settled_at),
        "records": "" if state.records_available else f"{state.records}, released",
    }
    if not state.upload_total:
        del told["uploaded"]
    return [f"{name + ':':<12} {value}" for name, value in told.items() if value]


async def found(
    manager: BackgroundFetchManager, id: str
) -> BackgroundFetchRegistration | None:
    """Find the newest fetch with this id, or say that there is none."""
    registration = await manager.find(id)
    if registration is None:
        say(f"no fetch {id!r} in scope {manager.scope!r}: see `bgfetch list --all`")
    return registration


def watch(
    id: FetchId,
    wait_timeout: WaitTimeout = None,
    scope: ScopeName = "default",
    redis_url: RedisURL = None,
    json: JSON = False,
) -> int:
    """Show progress until the result, and print it.

    With --json: one object for each change. Exits as `fetch --wait` does.
    """
    return in_scope(scope, redis_url, partial(_watch, id, wait_timeout, json))


async def _watch(
    id: str, patience: timedelta | None, json: bool, manager: BackgroundFetchManager
) -> int:
    from broker.cli.progress import Follower, followed, while_answering
    from broker.cli.records import exit_code

    registration = await found(manager, id)
    if registration is None:
        return ExitCode.NO
    try:
        async with asyncio.timeout(seconds(patience)):
            await first_of(
                while_answering(manager, _print_each(followed(registration)))
                if json
                else Follower(manager, registration).follow()
            )
    except TimeoutError:
        say(f"{id} is not done yet, and goes on")
        return ExitCode.TIMEOUT
    if not json:
        put(outcome(registration.state))
    return exit_code(registration.state)


async def _print_each(states: AsyncIterator[FetchState]) -> None:
    async for state in states:
        put_json(as_plain(state))
