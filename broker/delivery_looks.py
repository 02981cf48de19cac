"""How the events of one background fetch stand at each subscriber (R10, R11)."""

from __future__ import annotations

from broker.connection import Connection
from broker.context import context
from broker.keys import FetchKeys, ScopeKeys
from broker.settings import Settings
from schemas.timelines import DeliveryLook

MOST = 1000
"""Deliveries that are looked at."""
NEW = "new"
_EXTRA = "extra"


async def look_at_deliveries(
    connection: Connection, settings: Settings, keys: FetchKeys
) -> tuple[DeliveryLook, ...]:
    """Return every delivery that began, or is owed and new; in two round trips.

    Those of an event stand together, events in the order of publication.

    Raises:
        Unreachable: Redis does not answer.
    """
    names, arguments = context(keys, settings)
    rows: list[bytes] = await connection.run(
        "deliveries", [*names, ScopeKeys(keys.scope).subscribers], [*arguments, MOST]
    )
    told = [value.decode(errors="replace") for value in rows]
    found = list(zip(told[::4], told[1::4], told[2::4], told[3::4], strict=True))
    scores = await connection.ask_all(
        ("ZSCORE", key, f"{entry}/{keys.uid}/{event}")
        for event, entry, subscriber, _ in found
        for key in _sets(keys.scope, subscriber)
    )
    looks = [
        _look(event, entry, subscriber, words, leased, due)
        for (event, entry, subscriber, words), leased, due in zip(
            found, scores[::2], scores[1::2], strict=True
        )
    ]
    return tuple(sorted(looks, key=lambda each: (each.published_at, each.event)))


def _sets(scope: str, subscriber: str) -> tuple[str, str]:
    mine = ScopeKeys(scope).subscriber(subscriber)
    return mine.leases, mine.due


def _look(
    event: str,
    entry: str,
    subscriber: str,
    words: str,
    leased: float | None,
    due: float | None,
) -> DeliveryLook:
    told = words or f"{NEW} 0 0  "
    state, failures, attempt, _, holder, *standing = told.split(" ")
    return DeliveryLook(
        event=event,
        subscriber=subscriber,
        state=state,
        published_at=int(entry.partition("-")[0]),
        attempt=int(attempt),
        failures=int(failures),
        holder="" if holder == "-" else holder,
        held_until=None if leased is None else int(leased),
        due_at=None if due is None else int(due),
        owed=standing in ([], [""]),
    )
