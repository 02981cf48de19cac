"""What people do to a fetch: forms that are posted, and pages that ask first."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form, Request, Response

from broker.gateway.access import Role, needs
from broker.gateway.gateway import OurGateway, OurManager
from broker.gateway.pages.catalogue import cards
from broker.gateway.pages.fetch import found
from broker.gateway.pages.rendering import PageRoute, go_to, render

router = APIRouter(
    prefix="/fetches/{scope}/{uid}",
    route_class=PageRoute,
    dependencies=[needs(Role.PRODUCER)],
)


@router.get("/abort")
async def ask_before_abort(
    request: Request, uid: str, gateway: OurGateway, manager: OurManager
) -> Response:
    """Ask whether a fetch shall really be aborted."""
    [card] = await cards(gateway, [(await found(manager, uid)).state])
    return await render(request, "abort.html", card=card)


@router.post("/abort")
async def abort(scope: str, uid: str, manager: OurManager) -> Response:
    """Abort a fetch; one that has ended meanwhile keeps its result (BF-DISP-07)."""
    await (await found(manager, uid)).abort()
    return go_to(_address(scope, uid))


@router.post("/pause")
async def pause(scope: str, uid: str, manager: OurManager) -> Response:
    """Pause a fetch."""
    await (await found(manager, uid)).pause()
    return go_to(_address(scope, uid))


@router.post("/resume")
async def resume(scope: str, uid: str, manager: OurManager) -> Response:
    """Let a fetch go on, or permit one that waits for that (BF-DISP-11)."""
    await (await found(manager, uid)).resume()
    return go_to(_address(scope, uid))


@router.post("/retry")
async def retry(scope: str, uid: str, manager: OurManager) -> Response:
    """Register a fetch that failed, or was aborted, once more; show the new one."""
    again = await (await found(manager, uid)).retry()
    return go_to(_address(scope, again.uid))


@router.post("/click")
async def click(
    scope: str, uid: str, manager: OurManager, client: Annotated[str, Form()] = ""
) -> Response:
    """Click a fetch, while it runs and afterwards (BF-DISP-09).

    ``client`` is the page that was clicked, if it hears of windows.
    """
    dispatch = await (await found(manager, uid)).click(client=client)
    return go_to(f"{_address(scope, uid)}?clicked={quote(dispatch.event)}#window")


def _address(scope: str, uid: str) -> str:
    return f"/fetches/{quote(scope)}/{quote(uid)}"
