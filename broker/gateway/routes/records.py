"""Records over HTTP: how they stand, and which ones a request matches."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query

from broker.gateway.access import Role, needs
from broker.gateway.api_route import JSONRoute
from broker.gateway.documents import problems
from broker.gateway.matching import OurQuery
from broker.gateway.paths import OurFetch, OurRecord
from broker.gateway.record_views import (
    MatchesView,
    MatchView,
    RecordDetail,
    RecordPage,
    RecordView,
)
from broker.gateway.refusals import NotFound
from broker.record import BackgroundFetchRecord
from schemas.errors import InvalidRequest, InvalidState, InvalidURL

router = APIRouter(
    prefix="/scopes/{scope}/fetches/{uid}",
    tags=["records"],
    route_class=JSONRoute,
    dependencies=[needs(Role.VIEWER)],
    responses=problems(NotFound, InvalidState),
)
MATCHING = problems(NotFound, InvalidState, InvalidURL, InvalidRequest)

Limit = Annotated[int, Query(ge=1, le=1000, description="how many at most")]
Cursor = Annotated[
    str | None,
    Query(pattern="^[0-9]{1,9}$", description="the `cursor` of the page before"),
]


@router.get("/records", summary="Some records")
async def list_records(
    fetch: OurFetch, cursor: Cursor = None, limit: Limit = 100
) -> RecordPage:
    """Return records in the order of the requests, as they stand now."""
    start = int(cursor or 0)
    found = await fetch.records(start, limit)
    behind = start + len(found)
    more = len(found) == limit and behind < fetch.state.records
    items = [RecordView.of(record) for record in found]
    return RecordPage(items=items, cursor=str(behind) if more else None)


@router.get("/records/{index}", summary="One record")
async def get_record(record: OurRecord) -> RecordDetail:
    """Return one record, with its request and the head of its response."""
    return RecordDetail.in_full(record)


@router.get("/match", responses=MATCHING, summary="The record for a request")
async def match(fetch: OurFetch, query: OurQuery) -> MatchView:
    """Return the first record that the request matches, or null: `match()`."""
    found = await query.records(fetch)
    views = await _looked_at(found[:1])
    return MatchView(record=views[0] if views else None)


@router.get("/match-all", responses=MATCHING, summary="All records for a request")
async def match_all(
    fetch: OurFetch, query: OurQuery, limit: Limit = 1000
) -> MatchesView:
    """Return the records that the request matches, in order: `matchAll()`."""
    found = await query.records(fetch)
    return MatchesView(records=await _looked_at(found[:limit]))


async def _looked_at(records: list[BackgroundFetchRecord]) -> list[RecordView]:
    looked = await asyncio.gather(*(record.refresh() for record in records))
    return [RecordView.of(record) for record in looked]
