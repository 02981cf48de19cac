"""Which fetches wait because every host that they ask wants to be left alone."""

from __future__ import annotations

from collections.abc import Sequence

from broker.connection import Connection
from broker.gateway.pages.words import duration
from broker.keys import FetchKeys
from broker.origins import OriginLook, look_at
from schemas.fetches import FetchState, Result

MOST_HOSTS = 50
"""Hosts that are looked at for one page."""


async def left_alone(
    connection: Connection, states: Sequence[FetchState]
) -> dict[str, str]:
    """Tell of each of these fetches that waits for its hosts for how long, by uid.

    Raises:
        Unreachable: Redis does not answer.
    """
    active = [state for state in states if state.result is Result.ACTIVE]
    rows: list[bytes | None] = await connection.ask_all(
        ("HGET", FetchKeys(state.scope, state.uid).fetch, "hosts") for state in active
    )
    hosts = {
        state.uid: (row or b"").decode().split()
        for state, row in zip(active, rows, strict=True)
    }
    asked = sorted({host for each in hosts.values() for host in each})[:MOST_HOSTS]
    origins = [f"{scheme}://{host}" for host in asked for scheme in ("http", "https")]
    paused = {
        look.origin.partition("://")[2]: look
        for look in await look_at(connection, origins)
        if look.paused
    }
    return {
        uid: _told(min((paused[host] for host in each), key=lambda look: look.paused))
        for uid, each in hosts.items()
        if each and all(host in paused for host in each)
    }


def _told(look: OriginLook) -> str:
    left = duration(look.paused.total_seconds())
    return f"{look.origin} is left alone for {left}: {look.reason}"
