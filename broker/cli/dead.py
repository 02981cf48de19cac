"""``bgfetch dead list``, ``show``, ``replay`` and ``purge``: what failed too often."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli.exits import ExitCode
from broker.cli.options import JSON, RedisURL, ScopeName
from broker.cli.output import is_terminal, put, put_json, say, table
from broker.cli.running import in_scope
from broker.cli.sure import Yes, make_sure
from broker.plain import iso, letter_as_plain

if TYPE_CHECKING:
    from broker.dead_letters import DeadLetters, LetterFilter
    from broker.manager import BackgroundFetchManager
    from schemas.events import DeadLetter

COLUMNS = ("delivery", "state", "type", "id", "failures", "since", "reason")

DeliveryId = Annotated[
    str | None,
    typer.Argument(metavar="DELIVERY", help="a delivery id, as `dead list` shows it"),
]
SubscriberName = Annotated[
    str | None, typer.Option("--subscriber", metavar="NAME", help="of this subscriber")
]
EventName = Annotated[
    str | None,
    typer.Option("--type", metavar="TYPE", help="of this type; 'fail' is enough"),
]
OfFetch = Annotated[
    str | None, typer.Option("--id", metavar="ID", help="of fetches with this id")
]
All = Annotated[bool, typer.Option("--all", help="all of the scope")]


def command_line() -> typer.Typer:
    """Make the verbs about dead letters."""
    app = typer.Typer(
        help="Show, replay or purge deliveries that failed too often (dead letters).",
        rich_markup_mode=None,
        no_args_is_help=True,
    )
    app.command("list")(list_)
    app.command()(show)
    app.command()(replay)
    app.command()(purge)
    return app


def list_(
    subscriber: SubscriberName = None,
    type: EventName = None,
    id: OfFetch = None,
    scope: ScopeName = "default",
    redis_url: RedisURL = None,
    json: JSON = False,
) -> int:
    """List dead letters in the order of publication.

    Those that failed or are unreadable keep the records of their fetch; those that
    expired are copies, kept for one more retention.
    """
    wanted = _filter(None, subscriber, type, id)
    found = in_scope(scope, redis_url, partial(_find, wanted))
    if json:
        put_json([letter_as_plain(letter) for letter in found])
    elif found or not is_terminal():
        table(COLUMNS, [_row(letter) for letter in found])
    else:
        say(f"no dead letters in scope {scope!r}")
    return ExitCode.OK


def show(
    delivery: Annotated[str, typer.Argument(metavar="DELIVERY", help="a delivery id")],
    scope: ScopeName = "default",
    redis_url: RedisURL = None,
    json: JSON = False,
) -> int:
    """Show one dead letter: who failed, when and why, attempt by attempt."""
    wanted = _filter(delivery, None, None, None)
    found = in_scope(scope, redis_url, partial(_find, wanted))
    if not found:
        return _none(scope)
    [letter] = found
    if json:
        put_json(letter_as_plain(letter))
        return ExitCode.OK
    told = {
        "delivery": letter.delivery_id,
        "state": str(letter.state),
        "type": letter.type,
        "id": letter.id,
        "since": iso(letter.at) or "",
        "failures": str(letter.failures),
        "reason": letter.reason,
    }
    for name, value in told.items():
        if value:
            put(f"{name + ':':<10} {value}")
    rows = [
        (
            str(each.attempt),
            iso(each.at) or "",
            "failed" if each.failed else "handed back",
            each.consumer,
            each.reason,
        )
        for each in letter.attempts
    ]
    if rows:
        table(("attempt", "ended", "how", "process", "reason"), rows)
    return ExitCode.OK


def replay(
    delivery: DeliveryId = None,
    subscriber: SubscriberName = None,
    type: EventName = None,
    id: OfFetch = None,
    all: All = False,
    scope: ScopeName = "default",
    redis_url: RedisURL = None,
    json: JSON = False,
) -> int:
    """Deliver dead letters again: the same deliveries, their failures forgotten.

    Exits 1 if there is none that can be.
    """
    wanted = _chosen(delivery, subscriber, type, id, all)
    work = partial(_each, wanted, "replayed", lambda letters: letters.replay)
    return _report("replayed", in_scope(scope, redis_url, work), scope, json)


def purge(
    delivery: DeliveryId = None,
    subscriber: SubscriberName = None,
    type: EventName = None,
    id: OfFetch = None,
    all: All = False,
    yes: Yes = False,
    scope: ScopeName = "default",
    redis_url: RedisURL = None,
    json: JSON = False,
) -> int:
    """Give dead letters up for ever: their deliveries are settled, as purged.

    Exits 1 if there is none.
    """
    wanted = _chosen(delivery, subscriber, type, id, all)
    if not yes:
        found = in_scope(scope, redis_url, partial(_find, wanted))
        if not found:
            return _none(scope)
        make_sure(f"purge {_counted(len(found))} of scope {scope!r}?")
    work = partial(_each, wanted, "purged", lambda letters: letters.purge)
    return _report("purged", in_scope(scope, redis_url, work), scope, json)


def _filter(
    delivery: str | None, subscriber: str | None, type: str | None, id: str | None
) -> LetterFilter:
    from broker.dead_letters import LetterFilter
    from schemas.events import EventType

    if type is not None:
        known = {str(each): each for each in EventType}
        known |= {each.removeprefix("backgroundfetch"): each for each in EventType}
        if type not in known:
            raise typer.BadParameter(f"--type must be one of {', '.join(known)}")
        type = known[type]
    return LetterFilter(subscriber, type, id, delivery)


def _chosen(
    delivery: str | None,
    subscriber: str | None,
    type: str | None,
    id: str | None,
    all: bool,
) -> LetterFilter:
    given = any(each is not None for each in (delivery, subscriber, type, id))
    if given == all:
        raise typer.BadParameter(
            "say which: a delivery id, --subscriber, --type, --id, or else --all"
        )
    return _filter(delivery, subscriber, type, id)


async def _find(
    wanted: LetterFilter, manager: BackgroundFetchManager
) -> list[DeadLetter]:
    return await _letters(manager).find(wanted)


def _letters(manager: BackgroundFetchManager) -> DeadLetters:
    from broker.dead_letters import DeadLetters

    return DeadLetters(manager.connection, manager.settings, manager.scope)


async def _each(
    wanted: LetterFilter,
    done: str,
    action: Callable[[DeadLetters], Callable[..., Coroutine[Any, Any, bool]]],
    manager: BackgroundFetchManager,
) -> list[dict[str, object]]:
    letters = _letters(manager)
    return [
        {"delivery": letter.delivery_id, done: await action(letters)(letter)}
        for letter in await letters.find(wanted)
    ]


def _report(done: str, rows: list[dict[str, object]], scope: str, json: bool) -> int:
    count = sum(bool(row[done]) for row in rows)
    if json:
        put_json(rows)
    elif not rows:
        return _none(scope)
    else:
        for row in rows:
            if not row[done]:
                say(f"{row['delivery']} cannot be {done}: it has expired, or is gone")
        say(f"{_counted(count)} {done}")
    return ExitCode.OK if count else ExitCode.NO


def _counted(count: int) -> str:
    return "1 dead letter" if count == 1 else f"{count} dead letters"


def _none(scope: str) -> int:
    say(f"no such dead letter in scope {scope!r}: see `bgfetch dead list`")
    return ExitCode.NO


def _row(letter: DeadLetter) -> tuple[str, ...]:
    return (
        letter.delivery_id,
        str(letter.state),
        letter.type,
        letter.id,
        str(letter.failures),
        iso(letter.at) or "",
        letter.reason,
    )
