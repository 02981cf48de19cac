"""``bgfetch retry`` and ``forget``: what people do to fetches that have ended."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.exits import ExitCode
from broker.cli.many import (
    AnyId,
    FilterText,
    StateName,
    Token,
    act_on_many,
    chosen,
)
from broker.cli.options import JSON, RedisURL, ScopeName
from broker.cli.output import put, put_json
from broker.cli.running import in_scope
from broker.cli.show import found
from broker.cli.sure import Yes, make_sure
from broker.plain import as_plain
from schemas.bulk import Action

if TYPE_CHECKING:
    from broker.manager import BackgroundFetchManager


def retry(
    id: AnyId = None,
    filter: FilterText = None,
    state: StateName = None,
    token: Token = None,
    yes: Yes = False,
    scope: ScopeName = "default",
    redis_url: RedisURL = None,
    json: JSON = False,
) -> int:
    """Register a fetch that failed once more, or with --filter every one that matches.

    The new one has the same id, requests and options. Prints its uid. Exits 1 if the
    newest fetch with this id has not failed, or large bodies of it are released.
    """
    wanted = chosen(id, filter, state, scope)
    if isinstance(wanted, str):
        return in_scope(scope, redis_url, partial(_retry, wanted, json))
    return act_on_many(Action.RETRY, wanted, redis_url, token=token, yes=yes, json=json)


async def _retry(id: str, json: bool, manager: BackgroundFetchManager) -> int:
    registration = await found(manager, id)
    if registration is None:
        return ExitCode.NO
    again = await registration.retry()
    if json:
        put_json(as_plain(again.state))
    else:
        put(again.uid)
    return ExitCode.OK


def forget(
    id: AnyId = None,
    filter: FilterText = None,
    state: StateName = None,
    token: Token = None,
    yes: Yes = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="though subscribers have not settled its events"),
    ] = False,
    scope: ScopeName = "default",
    redis_url: RedisURL = None,
    json: JSON = False,
) -> int:
    """Delete a fetch that has ended now, or with --filter every one that matches.

    Its records and bytes go, too. Exits 1 if it is active, or subscribers have not
    settled its events: these expire with --force.
    """
    wanted = chosen(id, filter, state, scope)
    if isinstance(wanted, str):
        if not yes:
            make_sure(f"delete the fetch {wanted!r}, its records and bytes?")
        return in_scope(scope, redis_url, partial(_forget, wanted, force, json))
    return act_on_many(
        Action.FORGET,
        wanted,
        redis_url,
        token=token,
        yes=yes,
        json=json,
        force=force,
    )


async def _forget(
    id: str, force: bool, json: bool, manager: BackgroundFetchManager
) -> int:
    registration = await found(manager, id)
    if registration is None:
        return ExitCode.NO
    await registration.forget(force=force)
    if json:
        put_json({"id": id, "uid": registration.uid, "forgotten": True})
    return ExitCode.OK
