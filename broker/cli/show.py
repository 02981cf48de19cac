"""``bgfetch get`` and ``watch``: how a fetch is getting on, and how it got there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli.exits import ExitCode
from broker.cli.options import JSON, FetchId, RedisURL, ScopeName, WaitTimeout
from broker.cli.output import (
    amount,
    outcome,
    put,
    put_json,
    say,
    table,
)
from broker.cli.quantities import seconds
from broker.cli.running import first_of, in_scope
from broker.plain import as_plain, iso

if TYPE_CHECKING:
    from broker.manager import BackgroundFetchManager
    from broker.registration import BackgroundFetchRegistration
    from schemas.fetches import FetchState


def get(
    id: FetchId,
    timeline: Annotated[
        bool,
        typer.Option("--timeline", help="also what happened to it, and its deliveries"),
    ] = False,
    scope: ScopeName = "default",
    redis_url: RedisURL = None,
    json: JSON = False,
) -> int:
    """Show a fetch, ended or not, and its records.

    Of several with this id it is the newest.
    """
    return in_scope(scope, redis_url, partial(_get, id, timeline, json))


def fetch_as_json(state: FetchState, reasons: Mapping[str, str]) -> dict[str, Any]:
    """A fetch, and by uid why one has to wait."""
    return as_plain(state) | {"waiting": reasons.get(state.uid, "")}


async def _get(
    id: str, timeline: bool, json: bool, manager: BackgroundFetchManager
) -> int:
    from broker.cli.life import life_of
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
    life = await life_of(manager, state) if timeline else None
    if json:
        rows = [
            record.as_json() | {"waitsFor": record.waits_for(origins)}
            for record in records
        ]
        told = fetch_as_json(state, reasons) | {"recordList": rows}
        put_json(told | (life.as_json() if life else {}))
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
    if life is not None:
        life.put()
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
