"""What people and programs do to a background fetch, over HTTP."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from broker.gateway.access import Role, needs
from broker.gateway.api_route import JSONRoute, OurCall
from broker.gateway.documents import WRITING, problems
from broker.gateway.gateway import OurManager
from broker.gateway.once import Call
from broker.gateway.paths import OurFetch
from broker.gateway.refusals import NotFound
from broker.gateway.routes.fetches import shown
from broker.gateway.routes.registering import REGISTERED, location
from broker.gateway.views import AbortView, ClickView, FetchView
from schemas.errors import (
    DuplicateFetch,
    InvalidState,
    NoActiveWorker,
    NotAllowed,
    RejectedFetch,
)

router = APIRouter(
    prefix="/scopes/{scope}/fetches/{uid}",
    tags=["actions"],
    route_class=JSONRoute,
    dependencies=[needs(Role.PRODUCER)],
    responses=problems(*WRITING, NotFound, InvalidState),
)

forgetting = APIRouter(
    prefix="/scopes/{scope}/fetches/{uid}",
    tags=["actions"],
    route_class=JSONRoute,
    dependencies=[needs(Role.OPERATOR)],
    responses=problems(*WRITING, NotFound, InvalidState),
)


@router.post("/abort", summary="Abort")
async def abort_fetch(fetch: OurFetch, call: OurCall) -> AbortView:
    """End the fetch as aborted: `abort()`.

    `aborted` tells that this did it, that `backgroundfetchabort` is published, and the
    id free.
    """
    aborted = await fetch.abort(token=_token(call))
    return AbortView(id=fetch.id, uid=fetch.uid, aborted=aborted)


@router.post("/pause", summary="Pause")
async def pause_fetch(fetch: OurFetch, manager: OurManager, call: OurCall) -> FetchView:
    """Send no request of this fetch until it is resumed; what has arrived is kept."""
    await fetch.pause()
    return await shown(manager, fetch)


@router.post("/resume", summary="Resume, or permit")
async def resume_fetch(
    fetch: OurFetch, manager: OurManager, call: OurCall
) -> FetchView:
    """Let a paused fetch go on, or permit one that waits for permission."""
    await fetch.resume()
    return await shown(manager, fetch)


@router.post("/click", status_code=202, summary="Click")
async def click_fetch(
    fetch: OurFetch,
    call: OurCall,
    client: Annotated[
        str,
        Query(
            description="the id that a stream of events began with: a window that is "
            "opened for this click is told to that reader alone, while it is there"
        ),
    ] = "",
) -> ClickView:
    """Publish `backgroundfetchclick`, as a click on the display of the fetch does.

    `events/{event}` tells what became of it.
    """
    dispatch = await fetch.click(client=client, token=_token(call))
    return ClickView(id=fetch.id, uid=fetch.uid, event=dispatch.event)


@router.post("/release", summary="Release the records")
async def release_fetch(
    fetch: OurFetch, manager: OurManager, call: OurCall
) -> FetchView:
    """End the producer's hold: the records need not be kept for it any longer."""
    await fetch.release()
    return await shown(manager, fetch)


@router.post(
    "/retry",
    status_code=201,
    responses=REGISTERED
    | problems(
        *WRITING,
        NotFound,
        InvalidState,
        DuplicateFetch,
        NoActiveWorker,
        NotAllowed,
        RejectedFetch,
    ),
    summary="Retry",
)
async def retry_fetch(
    request: Request, response: Response, fetch: OurFetch, call: OurCall
) -> FetchView:
    """Register a fetch that failed, or was aborted, once more; return the new one.

    It has the same id, requests and options.
    """
    again = await fetch.retry(token=_token(call))
    response.headers["Location"] = location(request, again)
    return FetchView.of(again.state)


@forgetting.delete("", status_code=204, summary="Forget")
async def forget_fetch(
    fetch: OurFetch,
    call: OurCall,
    force: Annotated[
        bool, Query(description="also where events are not settled: they expire")
    ] = False,
) -> None:
    """Delete a fetch that has ended, now rather than when its retention ends.

    An active one is refused: abort it first.
    """
    await fetch.forget(force=force)


def _token(call: Call | None) -> str | None:
    return call.token if call is not None else None
