"""How fetches stand now, read for those who have missed it (R25)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from broker.connection import Connection
from broker.gateway.live.news import Told
from broker.keys import ScopeKeys

BATCH = 200


async def active_fetches(connection: Connection, scope: str) -> list[str]:
    """The uids of the active fetches of a scope, oldest first.

    Raises:
        Unreachable: Redis does not answer.
    """
    rows: list[bytes] = await connection.ask("HVALS", ScopeKeys(scope).active)
    placed = [row.decode().partition(":") for row in rows]
    return [uid for _, _, uid in sorted(placed, key=lambda one: int(one[0]))]


async def states_of(
    connection: Connection, scope: str, uids: Sequence[str]
) -> AsyncIterator[list[Told]]:
    """Yield the states of fetches that are still there, some at a time.

    Raises:
        Unreachable: Redis does not answer.
    """
    keys = ScopeKeys(scope)
    for start in range(0, len(uids), BATCH):
        rows = await connection.ask_all(
            ("HGETALL", keys.fetch(uid).fetch) for uid in uids[start : start + BATCH]
        )
        yield [
            {name.decode(): value.decode() for name, value in row.items()}
            for row in rows
            if row
        ]
