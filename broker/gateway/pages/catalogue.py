"""Which fetches a page lists: by state, newest first, a page at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from broker.gateway.gateway import Gateway
from broker.gateway.pages.cards import Card, Sample
from broker.keys import FetchKeys
from broker.places import waiting
from broker.scopes import look_at_scopes
from schemas.fetches import FailureReason, FetchState, Result

PAGE = 25
"""Fetches on a page."""
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


async def listed(
    gateway: Gateway, scope: str | None, tab: str, text: str, after: str
) -> Listed:
    """Return the page of a tab that begins after ``after``."""
    states: list[FetchState] = []
    for each in await _scopes(gateway, scope):
        async with gateway.manager(each) as manager:
            states += await manager.history(limit=_MOST)
    states.sort(key=lambda state: (state.created_at, state.uid), reverse=True)
    wanted = text.casefold()
    states = [
        each for each in states if wanted in f"{each.id}\n{each.title}".casefold()
    ]
    if tab != "all":
        states = [state for state in states if tab_of(state) == tab]
    start = int(after) if after.isdecimal() else 0
    end = start + PAGE
    return Listed(
        await cards(gateway, states[start:end]),
        await counts(gateway, scope),
        str(end) if len(states) > end else "",
    )


async def counts(gateway: Gateway, scope: str | None) -> Mapping[str, int]:
    """Return how many fetches each tab has."""
    found: Counter[str] = Counter()
    for each in await _scopes(gateway, scope):
        async with gateway.manager(each) as manager:
            found += Counter(map(tab_of, await manager.history(limit=_MOST)))
    return found + Counter(all=found.total())


async def _scopes(gateway: Gateway, scope: str | None) -> list[str]:
    if scope:
        return [scope]
    return [each.scope for each in await look_at_scopes(gateway.connection)]


@dataclass(frozen=True, slots=True)
class Named:
    """A fetch that a page shows already, and what it showed."""

    keys: FetchKeys
    before: Sample | None


async def named(gateway: Gateway, wanted: Sequence[Named]) -> list[Card]:
    """Return the cards of some fetches; those that are forgotten are left out."""
    rows = await gateway.connection.ask_all(
        ("HGETALL", each.keys.fetch) for each in wanted
    )
    states = [FetchState.from_hash(row) for row in rows if row]
    before = {each.keys.uid: each.before for each in wanted}
    return [
        replace(card, before=before[card.state.uid])
        for card in await cards(gateway, states)
    ]


async def cards(gateway: Gateway, states: Sequence[FetchState]) -> list[Card]:
    """Show fetches as they stand now, with the reasons why some wait."""
    now = await gateway.connection.now()
    reasons = await waiting(gateway.connection, gateway.settings, states)
    return [Card(state, now, reasons.get(state.uid, "")) for state in states]
