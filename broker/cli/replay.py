"""``bgfetch replay``: deliver the events of a time range again (R21)."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.exits import ExitCode
from broker.cli.options import JSON, RedisURL, parsed
from broker.cli.output import put_json, say
from broker.cli.quantities import parse_moment
from broker.cli.running import in_scope

if TYPE_CHECKING:
    from broker.manager import BackgroundFetchManager


def _moment_option(name: str, help: str) -> object:
    return typer.Option(name, metavar="WHEN", help=help, show_default=False)


def replay(
    scope: Annotated[str, typer.Argument(metavar="SCOPE", help="the scope")],
    subscriber: Annotated[
        str, typer.Argument(metavar="SUBSCRIBER", help="as `subscribers` shows it")
    ],
    since: Annotated[
        str,
        _moment_option("--since", "how long ago, as 2h, or a time in ISO 8601"),
    ],
    until: Annotated[
        str | None,
        _moment_option("--until", "the end of the range, in the same way; else now"),
    ] = None,
    redis_url: RedisURL = None,
    json: JSON = False,
) -> int:
    """Deliver to a subscriber again what was published in a time range.

    They are the same deliveries, their failures forgotten. What was settled keeps its
    outcome and is not owed anew: its records may be released. The same holds for events
    that the subscriber was never owed. Its filter decides about both. What runs, or is
    still to come, is left alone. Exits 1 if there is nothing to replay.
    """
    moment = parsed(parse_moment)
    end = None if until is None else moment(until)
    work = partial(_replay, subscriber, moment(since), end)
    count = in_scope(scope, redis_url, work)
    if json:
        put_json({"scope": scope, "subscriber": subscriber, "replayed": count})
    elif count:
        say(f"{count} {'delivery comes' if count == 1 else 'deliveries come'} again")
    else:
        say(
            f"nothing to replay for subscriber {subscriber!r} of scope {scope!r}: "
            "see `bgfetch subscribers`, or begin --since earlier"
        )
    return ExitCode.OK if count else ExitCode.NO


async def _replay(
    subscriber: str,
    since: datetime | timedelta,
    until: datetime | timedelta | None,
    manager: BackgroundFetchManager,
) -> int:
    return await manager.subscribers.replay(subscriber, since=since, until=until)
