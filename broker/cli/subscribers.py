"""``bgfetch subscribers``, ``unsubscribe``: who handles the events of a scope."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.exits import ExitCode
from broker.cli.options import JSON, RedisURL, ScopeName
from broker.cli.output import is_terminal, put_json, say, table
from broker.cli.running import in_scope
from broker.cli.sure import Yes, make_sure
from broker.plain import subscriber_as_plain
from broker.quantities import shown_duration

if TYPE_CHECKING:
    from broker.manager import BackgroundFetchManager
    from broker.standing import SubscriberLook

COLUMNS = (
    "subscriber",
    "processes",
    "lag",
    "pending",
    "waiting",
    "dead",
    "oldest",
    "state",
    "types",
    "ids",
    "excluded",
)

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="as `bgfetch subscribers` shows it")
]


def command_line() -> typer.Typer:
    """Make the verb that lists subscribers, and those below it."""
    app = typer.Typer(rich_markup_mode=None, invoke_without_command=True)
    app.callback()(subscribers)
    app.command()(pause)
    app.command()(resume)
    return app


def subscribers(
    context: typer.Context,
    scope: ScopeName = "default",
    redis_url: RedisURL = None,
    json: JSON = False,
) -> int:
    """List the subscribers of a scope, and how each one is getting on.

    lag: events not read yet; pending: with a process; waiting: for another attempt;
    dead: dead letters; oldest: age of the oldest event of the first three; state:
    active, paused, or expired: without a process for so long that later events are
    not owed to it; types, ids: its filter; excluded: events that it kept away.
    """
    if context.invoked_subcommand is not None:
        _refuse_options(context)
        return ExitCode.OK
    looks = in_scope(scope, redis_url, _look)
    if json:
        put_json([subscriber_as_plain(look) for look in looks])
    elif looks or not is_terminal():
        table(COLUMNS, [_row(look) for look in looks])
    else:
        say(f"scope {scope!r} has no subscribers: events wait for the first one")
    return ExitCode.OK


def _refuse_options(context: typer.Context) -> None:
    """What stands before ``pause`` would go unheard, the scope above all."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            verb = context.invoked_subcommand
            option = "--" + name.replace("_", "-")
            raise typer.BadParameter(f"write {option} after `subscribers {verb}`")


def pause(
    name: Name,
    scope: ScopeName = "default",
    redis_url: RedisURL = None,
    json: JSON = False,
) -> int:
    """Let no event begin at a subscriber until `resume`; what runs goes on.

    Events are still owed to it: its lag grows and their records stay. Its processes
    may start and stop meanwhile. Exits 1 if there is no such subscriber.
    """
    done = in_scope(scope, redis_url, partial(_set_paused, name, True))
    return _report(name, scope, {"paused": True}, done=done, json=json)


def resume(
    name: Name,
    scope: ScopeName = "default",
    redis_url: RedisURL = None,
    json: JSON = False,
) -> int:
    """Let events begin again at a subscriber that was paused.

    Exits 1 if there is no such subscriber.
    """
    done = in_scope(scope, redis_url, partial(_set_paused, name, False))
    return _report(name, scope, {"paused": False}, done=done, json=json)


async def _set_paused(name: str, paused: bool, manager: BackgroundFetchManager) -> bool:
    found = manager.subscribers
    return await (found.pause(name) if paused else found.resume(name))


def _report(
    subscriber: str, scope: str, told: dict[str, object], *, done: bool, json: bool
) -> int:
    if json and done:
        put_json({"scope": scope, "subscriber": subscriber, **told})
    elif not done:
        _none(subscriber, scope)
    return ExitCode.OK if done else ExitCode.NO


def _none(subscriber: str, scope: str) -> None:
    say(f"no subscriber {subscriber!r} in scope {scope!r}: see `bgfetch subscribers`")


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
        _none(subscriber, scope)
    return ExitCode.OK if removed else ExitCode.NO


async def _look(manager: BackgroundFetchManager) -> list[SubscriberLook]:
    return await manager.subscribers.look()


async def _remove(name: str, manager: BackgroundFetchManager) -> bool:
    return await manager.subscribers.remove(name)


def _row(look: SubscriberLook) -> tuple[str, ...]:
    numbers = (look.processes, look.lag, look.pending, look.waiting, look.dead)
    if look.oldest is None:
        oldest = ""
    elif is_terminal():
        oldest = shown_duration(look.oldest)
    else:
        oldest = str(look.oldest.total_seconds())
    types, ids = str(look.takes).replace("backgroundfetch", "").split(" ", 1)
    more = (str(look.state), types, ids, str(look.excluded))
    return (look.name, *map(str, numbers), oldest, *more)
