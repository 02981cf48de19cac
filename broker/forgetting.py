"""Forgetting a fetch that has ended before its retention ends (BF-DISP-03)."""

from __future__ import annotations

from broker.connection import Connection
from broker.context import context
from broker.keys import CLEARED, FetchKeys, ScopeKeys
from broker.settings import Settings
from schemas.errors import InvalidState
from schemas.fetches import FetchState

_REFUSALS = {
    "active": "background fetch {!r} is active: abort it first (BF-DISP-03)",
    "open": "events of background fetch {!r} are not settled by every subscriber, or "
    "are dead letters: wait for them, or force it",
    "gone": "background fetch {!r} is no longer retained",
}


async def forget(
    connection: Connection, settings: Settings, state: FetchState, *, force: bool
) -> None:
    """See ``BackgroundFetchRegistration.forget``."""
    keys, scope = FetchKeys(state.scope, state.uid), ScopeKeys(state.scope)
    names, arguments = context(keys, settings)
    verdict: bytes = await connection.run(
        "forget_fetch",
        [*names, scope.latest, CLEARED, scope.subscribers],
        [*arguments, int(force)],
    )
    refusal = _REFUSALS.get(verdict.decode())
    if refusal is not None:
        raise InvalidState(refusal.format(state.id))
