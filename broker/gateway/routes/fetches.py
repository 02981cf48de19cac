"""Background fetches over HTTP: finding them, and waiting for what becomes of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Query

from broker.gateway.access import Role, needs
from broker.gateway.api_route import JSONRoute
from broker.gateway.documents import problems
from broker.gateway.gateway import OurGateway, OurManager
from broker.gateway.paths import OurFetch
from broker.gateway.refusals import NotFound
from broker.gateway.views import (
    FetchView,
    MomentView,
    SettlementView,
    TimelineView,
)
from broker.keys import FetchKeys
from broker.manager import BackgroundFetchManager
from broker.places import waiting
from broker.registration import BackgroundFetchRegistration
from broker.timeline import timeline
from schemas.errors import InvalidState
from schemas.events import DeliveryOutcome, completion_event
from schemas.fetches import Result

router = APIRouter(
    prefix="/scopes/{scope}/fetches", tags=["fetches"], route_class=JSONRoute
)

Wait = Annotated[
    float, Query(ge=0, le=60, description="seconds to wait for it; 0: only look")
]


@router.get(
    "/{uid}",
    dependencies=[needs(Role.VIEWER)],
    responses=problems(NotFound),
    summary="One fetch",
)
async def get_fetch(fetch: OurFetch, manager: OurManager) -> FetchView:
    """Return one retained background fetch, ended or not."""
    return await shown(manager, fetch)


@router.get(
    "/{uid}/settled",
    dependencies=[needs(Role.VIEWER)],
    responses=problems(NotFound, InvalidState),
    summary="What became of the completion event",
)
async def get_settled(fetch: OurFetch, wait: Wait = 0) -> SettlementView:
    """Tell whether every subscriber is done with the completion event: `settled()`.

    An active fetch is not settled. With `wait` the answer comes as soon as it is.
    """
    try:
        outcomes = await fetch.settled(timedelta(seconds=wait))
    except TimeoutError:
        return _settlement(_completion(fetch), None)
    return _settlement(_completion(fetch), outcomes)


@router.get(
    "/{uid}/events/{event}",
    dependencies=[needs(Role.VIEWER)],
    responses=problems(NotFound, InvalidState),
    summary="What became of an event",
)
async def get_event(
    fetch: OurFetch,
    event: Annotated[
        str, Path(description="its name", examples=["backgroundfetchclick.1"])
    ],
    wait: Wait = 0,
) -> SettlementView:
    """Tell whether every subscriber is done with an event, as that of a click.

    With `wait` the answer comes as soon as they are.
    """
    dispatch = await fetch.dispatched(event)
    if dispatch is None:
        raise NotFound(f"background fetch {fetch.uid!r} has published no {event!r}")
    try:
        outcomes = await dispatch.settled(timedelta(seconds=wait))
    except TimeoutError:
        return _settlement(event, None)
    return _settlement(event, outcomes)


@router.get(
    "/{uid}/timeline",
    dependencies=[needs(Role.VIEWER)],
    responses=problems(NotFound),
    summary="What happened to a fetch",
)
async def get_timeline(fetch: OurFetch, gateway: OurGateway) -> TimelineView:
    """Return what happened to the fetch, its records and its events, oldest first."""
    keys = FetchKeys(fetch.scope, fetch.uid)
    moments = await timeline(gateway.connection, keys)
    return TimelineView(items=[MomentView.of(moment) for moment in moments])


async def shown(
    manager: BackgroundFetchManager, fetch: BackgroundFetchRegistration
) -> FetchView:
    """Show a fetch as it stands, with the reason if it waits for a place."""
    state = fetch.state
    reasons = await waiting(manager.connection, manager.settings, [state])
    return FetchView.of(state, reasons.get(state.uid, ""))


def _completion(fetch: BackgroundFetchRegistration) -> str:
    if fetch.result is Result.ACTIVE:
        return ""
    return completion_event(fetch.result, fetch.failure_reason)


def _settlement(
    event: str, outcomes: dict[str, DeliveryOutcome] | None
) -> SettlementView:
    told = {name: str(outcome) for name, outcome in (outcomes or {}).items()}
    return SettlementView(event=event, settled=outcomes is not None, outcomes=told)
