"""Lists of background fetches over HTTP: by state, by filter, a page at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from broker.gateway.access import Role, needs
from broker.gateway.api_route import JSONRoute
from broker.gateway.documents import problems
from broker.gateway.gateway import Gateway, OurGateway, OurManager
from broker.gateway.views import CountsView, FetchPage, FetchView, IdsView
from broker.listing import Listing
from broker.places import waiting
from schemas.errors import InvalidFilter
from schemas.names import check_scope
from schemas.queries import FetchFilter, ListedState

router = APIRouter(
    tags=["fetches"],
    route_class=JSONRoute,
    dependencies=[needs(Role.VIEWER)],
    responses=problems(InvalidFilter),
)

Scope = Annotated[
    str | None, Query(description="of this scope alone", examples=["podcasts"])
]


@dataclass(frozen=True, slots=True)
class Wish:
    """Which fetches, and how many of them."""

    state: Annotated[ListedState | None, Query(description="in this state")] = None
    filter: Annotated[
        str,
        Query(
            description="qualifiers, as people write them: `reason:bad-status id:ep-* "
            'host:cdn.example priority:high q:"free text"`',
        ),
    ] = ""
    cursor: Annotated[str | None, Query(description="of the page before")] = None
    limit: Annotated[int, Query(ge=1, le=500, description="how many at most")] = 50
    oldest: Annotated[bool, Query(description="the oldest first")] = False

    async def page(self, gateway: Gateway, scope: str | None) -> FetchPage:
        """Return the page.

        Raises:
            InvalidFilter: the filter, or the cursor, cannot be understood.
        """
        found = await Listing(gateway.connection, gateway.settings).page(
            scope=scope,
            state=self.state,
            filter=FetchFilter.parse(self.filter),
            cursor=self.cursor,
            limit=self.limit,
            newest_first=not self.oldest,
        )
        reasons = await waiting(gateway.connection, gateway.settings, found.items)
        items = [FetchView.of(each, reasons.get(each.uid, "")) for each in found.items]
        return FetchPage(items=items, cursor=found.cursor)


OurWish = Annotated[Wish, Depends()]


@router.get("/fetches", summary="Fetches of every scope")
async def list_all_fetches(
    gateway: OurGateway, wish: OurWish, scope: Scope = None
) -> FetchPage:
    """Return retained background fetches, the newest first, ended ones included."""
    if scope is not None:
        check_scope(scope)
    return await wish.page(gateway, scope)


@router.get("/counts", summary="How many fetches there are")
async def count_fetches(gateway: OurGateway, scope: Scope = None) -> CountsView:
    """Return how many background fetches are in each state, of a scope or of all."""
    if scope is not None:
        check_scope(scope)
    counts = await Listing(gateway.connection, gateway.settings).counts(scope)
    return CountsView.model_validate(counts)


@router.get("/scopes/{scope}/fetches", summary="Fetches of a scope")
async def list_fetches(
    manager: OurManager,
    gateway: OurGateway,
    wish: OurWish,
    id: Annotated[
        str | None,
        Query(description="only the newest with this id, whatever the id may be"),
    ] = None,
) -> FetchPage:
    """Return retained background fetches, the newest first, ended ones included.

    With an `id` it is the newest fetch with that very id alone, or none: with
    `state=active`, or `paused`, that is `get(id)`.
    """
    if id is None:
        return await wish.page(gateway, manager.scope)
    if wish.state in (ListedState.ACTIVE, ListedState.PAUSED):
        fetch = await manager.get(id)
    else:
        fetch = await manager.find(id)
    if fetch is None:
        return FetchPage(items=[], cursor=None)
    state = fetch.state
    reasons = await waiting(gateway.connection, gateway.settings, [state])
    return FetchPage(
        items=[FetchView.of(state, reasons.get(state.uid, ""))], cursor=None
    )


@router.get("/scopes/{scope}/ids", summary="Ids of active fetches")
async def get_ids(manager: OurManager) -> IdsView:
    """Return the ids of the active background fetches, oldest first: `getIds()`."""
    return IdsView(ids=await manager.get_ids())
