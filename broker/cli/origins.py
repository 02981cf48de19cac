"""``bgfetch origins``: what all workers together ask of origins, and why not more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from broker.cli.exits import ExitCode
from broker.cli.options import JSON, RedisURL
from broker.cli.output import is_terminal, put_json, say, table
from broker.cli.running import in_scope
from broker.plain import iso, origin_as_plain
from broker.quantities import shown_duration

if TYPE_CHECKING:
    from broker.cli.records import RecordView
    from broker.manager import BackgroundFetchManager
    from broker.origins import OriginLook

COLUMNS = ("origin", "in use", "limit", "of", "rate", "paused", "since", "reason")


def origins(redis_url: RedisURL = None, json: JSON = False) -> int:
    """List the origins that are fetched from, and how much they are asked.

    in use: exchanges of all workers; limit: how many there may be, of how many when all
    is well; rate: requests per second; paused: time for which the origin asked to be
    left alone; since: when the limit was last lowered, and the reason.
    """
    looks = in_scope("default", redis_url, _look)
    if json:
        put_json([origin_as_plain(look) for look in looks])
    elif looks or not is_terminal():
        table(COLUMNS, [_row(look) for look in looks])
    else:
        say("no origin is fetched from")
    return ExitCode.OK


async def reasons_to_wait(
    manager: BackgroundFetchManager, records: Sequence[RecordView]
) -> dict[str, str]:
    """Tell which origins of open records are asked less than usual, and why.

    Raises:
        Unreachable: Redis does not answer.
    """
    from broker.origins import look_at
    from schemas.records import RecordResult
    from schemas.urls import origin_of

    waiting = {origin_of(r.url) for r in records if r.result is RecordResult.OPEN}
    looks = await look_at(manager.connection, sorted(waiting))
    return {look.origin: told for look in looks if (told := told_limit(look))}


def told_limit(look: OriginLook) -> str:
    """Why an origin is asked less than usual, in one line; empty if it is not."""
    if look.paused:
        left = shown_duration(look.paused)
        return f"the origin is left alone for {left}: {look.reason}"
    if look.reason:
        return f"the origin is limited to {look.limit} of {look.base}: {look.reason}"
    return ""


async def _look(manager: BackgroundFetchManager) -> list[OriginLook]:
    from broker.origins import all_origins

    return await all_origins(manager.connection)


def _row(look: OriginLook) -> tuple[str, ...]:
    return (
        look.origin,
        str(look.used),
        str(look.limit),
        str(look.base),
        f"{look.rate:g}" if look.rate else "",
        shown_duration(look.paused) if look.paused else "",
        iso(look.lowered_at or 0) or "",
        look.reason,
    )
