"""Which fetches a page lists: by state, newest first, a page at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from broker.gateway.gateway import Gateway
from broker.gateway.pages.cards import Card
from broker.places import waiting
from broker.scopes import scope_names
from schemas.fetches import FailureReason, FetchState, Result

PAGE = 25
"""Fetches on a page."""
TABS = ("all", "active", "paused", "success", "failure", "aborted")
_MOST = 1000


@dataclass(frozen=True, slots=True)
class Listed:
    """One page of fetches."""

    cards: Sequence[Card]
    counts: Mapping[str, int]
    older: str
    """Where the next page begins; empty on the last."""


def tab_of(state: FetchState) -> str:
    """The tab that lists a fetch."""
    if state.result is Result.SUCCESS:
        return "success"
    if state.result is Result.FAILURE:
        aborted = state.failure_reason is FailureReason.ABORTED
        return "aborted" if aborted else "failure"
    return "paused" if state.paused else "active"


async def listed(gateway: Gateway, tab: str, text: str, after: str) -> Listed:
    """Return the page of a tab that begins after ``after``."""
    states: list[FetchState] = []
    for scope in await scope_names(gateway.connection):
        async with gateway.manager(scope) as manager:
            states += await manager.history(limit=_MOST)
    states.sort(key=lambda state: (state.created_at, state.uid), reverse=True)
    wanted = text.casefold()
    states = [
        each for each in states if wanted in f"{each.id}\n{each.title}".casefold()
    ]
    counts = Counter(tab_of(state) for state in states) + Counter(all=len(states))
    if tab != "all":
        states = [state for state in states if tab_of(state) == tab]
    start = int(after) if after.isdecimal() else 0
    end = start + PAGE
    return Listed(
        await cards(gateway, states[start:end]),
        counts,
        str(end) if len(states) > end else "",
    )


async def cards(gateway: Gateway, states: Sequence[FetchState]) -> list[Card]:
    """Show fetches as they stand now, with the reasons why some wait."""
    now = await gateway.connection.now()
    reasons = await waiting(gateway.connection, gateway.settings, states)
    return [Card(state, now, reasons.get(state.uid, "")) for state in states]
