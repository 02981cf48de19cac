"""The keys and arguments with which every script about a fetch begins."""

from __future__ import annotations

from broker.keys import AGENDA, FetchKeys, ScopeKeys
from broker.settings import Settings, milliseconds


def context(
    keys: FetchKeys, settings: Settings, agenda: str = AGENDA
) -> tuple[list[str], list[str | int]]:
    """See ``lua/_fetch.lua``, which gives them their names."""
    scope = ScopeKeys(keys.scope)
    return (
        [
            keys.fetch,
            keys.events,
            agenda,
            scope.scope_hash,
            scope.active,
            scope.events,
        ],
        [
            keys.member,
            scope.progress,
            milliseconds(settings.retention),
            milliseconds(settings.release_grace),
        ],
    )
