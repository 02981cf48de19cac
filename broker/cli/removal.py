"""``bgfetch scope list`` and ``remove``: which scopes there are, and the end of one."""

from __future__ import annotations

import sys
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.exits import ExitCode
from broker.cli.options import JSON, RedisURL
from broker.cli.output import put_json, say, table
from broker.cli.running import configured, in_scope, run
from broker.cli.sure import Yes, make_sure
from broker.quantities import shown_size

if TYPE_CHECKING:
    from broker.manager import BackgroundFetchManager
    from broker.scopes import ScopeLook
    from broker.settings import Settings

COLUMNS = ("scope", "active", "retained", "subscribers", "used", "state")


def list_(redis_url: RedisURL = None, json: JSON = False) -> int:
    """List the scopes that were used: fetches, subscribers, stored bytes."""
    looks = run(_look(configured(redis_url=redis_url)))
    if json:
        put_json([asdict(look) for look in looks])
    else:
        table(COLUMNS, [_row(look) for look in looks])
    return ExitCode.OK


async def _look(settings: Settings) -> list[ScopeLook]:
    from broker.connection import Connection
    from broker.scopes import look_at_scopes

    connection = Connection(settings.found_redis())
    try:
        return await look_at_scopes(connection)
    finally:
        await connection.aclose()


def _row(look: ScopeLook) -> tuple[str, ...]:
    numbers = (look.active, look.retained, look.subscribers)
    state = "is being removed" if look.removing else "in use"
    return (look.scope, *map(str, numbers), shown_size(look.used), state)


def remove(
    scope: Annotated[str, typer.Argument(metavar="SCOPE", help="the scope")],
    yes: Yes = False,
    redis_url: RedisURL = None,
    json: JSON = False,
) -> int:
    """Remove a scope: fetches, subscribers, dead letters, rules, stored bytes.

    What is active ends without an event, and no listener is called any more. Bytes are
    deleted by workers, a minute later or when nobody reads them any more. If this is
    interrupted, a worker finishes it. Exits 1 if there is no such scope.
    """
    if not yes:
        make_sure(f"remove scope {scope!r} with all of its fetches and subscribers?")
    removed, left = in_scope(scope, redis_url, partial(_remove, json))
    if json:
        put_json({"scope": scope, "removed": removed, "bytesLeftOf": left})
    elif not removed:
        say(f"no scope {scope!r}: see `bgfetch scope list`")
    elif left:
        say(f"workers will delete the bytes of {_fetches(left)}")
    return ExitCode.OK if removed else ExitCode.NO


async def _remove(quiet: bool, manager: BackgroundFetchManager) -> tuple[bool, int]:
    from broker.removal import bytes_left

    shown = None if quiet or not sys.stderr.isatty() else _show
    removed = await manager.unregister(shown)
    return removed, await bytes_left(manager.connection, manager.scope)


def _show(cleared: int, total: int) -> None:
    end = "\n" if cleared == total else ""
    sys.stderr.write(f"\rbgfetch: {cleared} of {_fetches(total)} removed{end}")
    sys.stderr.flush()


def _fetches(count: int) -> str:
    return "1 fetch" if count == 1 else f"{count} fetches"
