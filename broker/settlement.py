"""What became of an event at each subscriber that is owed it (R11, R12)."""

from __future__ import annotations

from broker.connection import Connection
from broker.keys import FetchKeys
from schemas.events import DeliveryOutcome

Outcomes = dict[str, DeliveryOutcome]

NOBODY = ""
"""Stands for the first subscriber, which an event waited for and which never came."""

_BATCH = 500
_OUTCOMES = frozenset(DeliveryOutcome)


async def settlement(
    connection: Connection, keys: FetchKeys, event: str
) -> Outcomes | None:
    """Return the outcome at each subscriber; None while somebody owes one.

    Raises:
        Unreachable: Redis does not answer.
    """
    # First whether the records are readable: retention concludes, then releases.
    ending: list[bytes | None] = await connection.ask(
        "HMGET", keys.fetch, "recordsAvailable", "held", "completion"
    )
    about: bytes | None = await connection.ask("HGET", keys.events, event)
    if about is None:
        return None
    _, _, owed, settled, _ = about.split(b" ")
    # '-' is owed to the first subscriber, which has not come.
    if int(settled) >= (1 if owed == b"-" else int(owed)):
        return await _outcomes(connection, keys, event)
    # Records wait for the completion event, and for no other.
    if ending[0] != b"0" or ending[2] != event.encode():
        return None
    # The end of a hold settles what nobody else was owed; else it was the retention.
    return {} if ending[1] == b"1" else {NOBODY: DeliveryOutcome.EXPIRED}


async def _outcomes(connection: Connection, keys: FetchKeys, event: str) -> Outcomes:
    found: Outcomes = {}
    cursor = None
    while cursor != 0:
        cursor, rows = await connection.ask(
            "HSCAN", keys.events, cursor or 0, "MATCH", f"{event}|*", "COUNT", _BATCH
        )
        for field, value in rows.items():
            _, subscriber, *rest = field.decode().split("|")
            words = value.decode().split(" ") if not rest else [""]
            # A sixth word is the outcome from before a replay, or says "not owed".
            status = words[5] if len(words) > 5 else words[0]
            if status in _OUTCOMES:
                found[subscriber] = DeliveryOutcome(status)
    return found
