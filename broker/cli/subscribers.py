"""``bgfetch subscribers`` and ``unsubscribe``: who handles the events of a scope."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli.exits import ExitCode
from broker.cli.options import JSON, RedisURL, ScopeName
from broker.cli.output import is_terminal, put_json, say, table
from broker.cli.quantities import shown_duration
from broker.cli.running import in_scope
from broker.cli.sure import Yes, make_sure

if TYPE_CHECKING:
    from broker.manager import BackgroundFetchManager
    from broker.subscribers import SubscriberLook, Subscribers

COLUMNS = ("subscriber", "processes", "lag", "pending", "waiting", "dead", "oldest")


def subscribers(
    scope: ScopeName = "default", redis_url: RedisURL = None, json: JSON = False
) -> int:
    """List the subscribers of a scope, and how each one is getting on.

    lag: events not read yet; pending: with a process; waiting: for another attempt;
    dead: dead letters; oldest: age of the oldest event of the first three.
    """
    looks = in_scope(scope, redis_url, _look)
    if json:
        put_json([_as_json(look) for look in looks])
    elif looks or not is_terminal():
        table(COLUMNS, [_row(look) for look in looks])
    else:
        say(f"scope {scope!r} has no subscribers: events wait for the first one")
    return ExitCode.OK


def unsubscribe(
    scope: Annotated[str, typer.Argument(metavar="SCOPE", help="the scope")],
    subscriber: Annotated[
        str, typer.Argument(metavar="SUBSCRIBER", help="as `subscribers` shows it")
    ],
    yes: Yes = False,
    redis_url: RedisURL = None,
    json: JSON = False,
) -> int:
    """Remove a subscriber, whose processes must have ended.

    Later events are not owed to it; what it was owed is settled as removed, dead
    letters too, so that records are released. Exits 1 if there is none, or if a
    process lives.
    """
    if not yes:
        make_sure(f"remove subscriber {subscriber!r} of scope {scope!r}?")
    removed = in_scope(scope, redis_url, partial(_remove, subscriber))
    if json:
        put_json({"scope": scope, "subscriber": subscriber, "removed": removed})
    elif not removed:
        say(
            f"no subscriber {subscriber!r} in scope {scope!r}: "
            "see `bgfetch subscribers`"
        )
    return ExitCode.OK if removed else ExitCode.NO


async def _look(manager: BackgroundFetchManager) -> list[SubscriberLook]:
    return await _subscribers(manager).look()


async def _remove(name: str, manager: BackgroundFetchManager) -> bool:
    return await _subscribers(manager).remove(name)


def _subscribers(manager: BackgroundFetchManager) -> Subscribers:
    from broker.subscribers import Subscribers

    return Subscribers(manager.connection, manager.settings, manager.scope)


def _row(look: SubscriberLook) -> tuple[str, ...]:
    numbers = (look.processes, look.lag, look.pending, look.waiting, look.dead)
    if look.oldest is None:
        oldest = ""
    elif is_terminal():
        oldest = shown_duration(look.oldest)
    else:
        oldest = str(look.oldest.total_seconds())
    return (look.name, *map(str, numbers), oldest)


def _as_json(look: SubscriberLook) -> dict[str, Any]:
    oldest = None if look.oldest is None else look.oldest.total_seconds()
    return {
        "subscriber": look.name,
        "processes": look.processes,
        "lag": look.lag,
        "pending": look.pending,
        "waiting": look.waiting,
        "dead": look.dead,
        "oldestSeconds": oldest,
    }
