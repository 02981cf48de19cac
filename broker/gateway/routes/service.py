"""The service itself over HTTP: its processes, its queues, and origins."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request

from broker.gateway.access import Role, needs
from broker.gateway.api_route import JSONRoute
from broker.gateway.audit import Audit
from broker.gateway.gateway import OurGateway
from broker.gateway.service_views import (
    ActionsView,
    ActionView,
    OriginsView,
    OriginView,
    ProcessesView,
    ProcessView,
    QueuesView,
    QueueView,
    WorkerView,
)
from broker.origins import all_origins
from broker.processes import Processes
from broker.queue import JobQueue

router = APIRouter(tags=["service"], route_class=JSONRoute)
_VIEWING = [needs(Role.VIEWER)]


@router.get("/processes", dependencies=_VIEWING, summary="All processes")
async def list_processes(gateway: OurGateway) -> ProcessesView:
    """Return the processes that live, and the workers of RQ with what they do."""
    lease = gateway.settings.lease
    looks = await Processes(gateway.connection).look()
    workers = await _queue(gateway).workers()
    return ProcessesView(
        processes=[ProcessView.of(look, lease) for look in looks],
        workers=[WorkerView.of(worker) for worker in workers],
    )


@router.get("/queues", dependencies=_VIEWING, summary="The queues")
async def list_queues(gateway: OurGateway) -> QueuesView:
    """Return how many lanes wait in each of RQ's queues, in the order of service."""
    waiting = await _queue(gateway).waiting()
    return QueuesView(
        items=[QueueView(name=name, waiting=waiting[name]) for name in waiting]
    )


@router.get("/origins", dependencies=_VIEWING, summary="Origins")
async def list_origins(gateway: OurGateway) -> OriginsView:
    """Return what all workers together may ask of each origin, and why not more."""
    looks = await all_origins(gateway.connection)
    return OriginsView(items=[OriginView.of(look) for look in looks])


@router.get("/audit", dependencies=[needs(Role.OPERATOR)], summary="Who did what")
async def list_actions(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=1000, description="how many at most")] = 100,
) -> ActionsView:
    """Return the newest writes that somebody sent, newest first; some 10,000 are kept.

    What subscribers take and acknowledge is not among them.
    """
    audit: Audit = request.app.state.audit
    return ActionsView(items=[ActionView.of(each) for each in await audit.last(limit)])


def _queue(gateway: OurGateway) -> JobQueue:
    return gateway.shared.queue
