"""Which fetches a page lists: by state, newest first, a page at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from broker.gateway.gateway import Gateway
from broker.gateway.pages.cards import Card, Sample
from broker.gateway.pages.origins import left_alone
from broker.keys import FetchKeys
from broker.listing import Listing
from broker.places import waiting
from schemas.fetches import FetchState
from schemas.queries import FetchFilter, ListedState

PAGE = 25
"""Fetches on a page."""
ALL = "all"
"""The tab of every state."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One page of fetches."""

    cards: Sequence[Card]
    counts: Mapping[str, int]
    older: str
    """Where the next page begins; empty on the last."""
    examined: int
    """Fetches that a filter has looked at for this page."""


async def listed(
    gateway: Gateway, scope: str | None, tab: str, filter: FetchFilter, after: str
) -> Listed:
    """Return the page of a tab that begins after ``after``.

    Raises:
        InvalidFilter: ``after`` is no place, or the filter contradicts scope or tab.
        Unreachable: Redis does not answer.
    """
    page = await Listing(gateway.connection, gateway.settings).page(
        scope=scope,
        state=None if tab == ALL else ListedState(tab),
        filter=filter,
        cursor=after or None,
        limit=PAGE,
    )
    return Listed(
        await cards(gateway, page.items),
        await counts(gateway, scope),
        page.cursor or "",
        page.examined,
    )


async def counts(gateway: Gateway, scope: str | None) -> Mapping[str, int]:
    """Return how many fetches each tab has, whatever a filter leaves of them.

    Raises:
        Unreachable: Redis does not answer.
    """
    found = await Listing(gateway.connection, gateway.settings).counts(scope)
    every = sum(found.values()) - found[ListedState.AWAITING]
    return {ALL: every} | {str(state): size for state, size in found.items()}


@dataclass(frozen=True, slots=True)
class Named:
    """A fetch that a page shows already, and what it showed."""

    keys: FetchKeys
    before: Sample | None


async def named(gateway: Gateway, wanted: Sequence[Named]) -> list[Card]:
    """Return the cards of some fetches; those that are forgotten are left out.

    Raises:
        Unreachable: Redis does not answer.
    """
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
    """Show fetches as they stand now, with the reasons why some wait.

    Raises:
        Unreachable: Redis does not answer.
    """
    now = await gateway.connection.now()
    reasons = await left_alone(gateway.connection, states)
    reasons |= await waiting(gateway.connection, gateway.settings, states)
    return [Card(state, now, reasons.get(state.uid, "")) for state in states]
