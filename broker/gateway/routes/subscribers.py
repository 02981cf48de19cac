"""The subscribers of a scope over HTTP: how each is getting on, and what to do."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from broker.gateway.access import Role, needs
from broker.gateway.api_route import JSONRoute, OurCall
from broker.gateway.documents import WRITING, problems
from broker.gateway.gateway import OurManager
from broker.gateway.refusals import NotFound
from broker.gateway.routes.pulling import Name
from broker.gateway.subscriber_views import (
    ReplayForm,
    ReplayView,
    SubscribersView,
    SubscriberView,
)
from broker.manager import BackgroundFetchManager
from schemas.errors import InvalidState

router = APIRouter(
    prefix="/scopes/{scope}/subscribers", tags=["subscribers"], route_class=JSONRoute
)
_VIEWING = [needs(Role.VIEWER)]
_OPERATING = [needs(Role.OPERATOR)]
_WRITING = problems(*WRITING, NotFound)


@router.get("", dependencies=_VIEWING, summary="All subscribers")
async def list_subscribers(manager: OurManager) -> SubscribersView:
    """Return how each subscriber stands, by name."""
    looks = await manager.subscribers.look()
    return SubscribersView(items=[SubscriberView.of(look) for look in looks])


@router.get(
    "/{name}",
    dependencies=_VIEWING,
    responses=problems(NotFound),
    summary="One subscriber",
)
async def get_subscriber(name: Name, manager: OurManager) -> SubscriberView:
    """Return how a subscriber stands."""
    for look in await manager.subscribers.look():
        if look.name == name:
            return SubscriberView.of(look)
    raise _none(name, manager)


@router.post(
    "/{name}/pause", dependencies=_OPERATING, responses=_WRITING, summary="Pause"
)
async def pause_subscriber(
    name: Name, manager: OurManager, call: OurCall
) -> SubscriberView:
    """Let nothing new begin there until `resume`; its lag grows, what runs goes on."""
    if not await manager.subscribers.pause(name):
        raise _none(name, manager)
    return await get_subscriber(name, manager)


@router.post(
    "/{name}/resume", dependencies=_OPERATING, responses=_WRITING, summary="Resume"
)
async def resume_subscriber(
    name: Name, manager: OurManager, call: OurCall
) -> SubscriberView:
    """Undo a pause."""
    if not await manager.subscribers.resume(name):
        raise _none(name, manager)
    return await get_subscriber(name, manager)


@router.post(
    "/{name}/replay",
    dependencies=_OPERATING,
    responses=_WRITING,
    summary="Deliver a time range again",
)
async def replay_events(
    name: Name, manager: OurManager, form: ReplayForm, call: OurCall
) -> ReplayView:
    """Deliver again what was published in a time range, as far as it is there.

    They are the same deliveries, their failures forgotten. What was settled keeps its
    outcome, so its records may be released.
    """
    if name not in await manager.subscribers.names():
        raise _none(name, manager)
    count = await manager.subscribers.replay(name, since=form.since, until=form.until)
    return ReplayView(replayed=count)


@router.delete(
    "/{name}",
    dependencies=_OPERATING,
    responses=problems(*WRITING, NotFound, InvalidState),
    status_code=204,
    summary="Remove",
)
async def remove_subscriber(name: Name, manager: OurManager, call: OurCall) -> Response:
    """Take a subscriber out of the scope; what it was owed is settled as `removed`.

    Refused while a process of it lives, or a pull's lease lasts.
    """
    if not await manager.subscribers.remove(name):
        raise _none(name, manager)
    return Response(status_code=204)


def _none(name: str, manager: BackgroundFetchManager) -> NotFound:
    return NotFound(f"no subscriber {name!r} in scope {manager.scope!r}")
