"""Subscribers: how far behind each is with its events; pause and resume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from broker.gateway.access import Role, needs
from broker.gateway.gateway import Gateway, OurGateway, OurManager
from broker.gateway.pages.rendering import PageRoute, go_to, render
from broker.gateway.pages.trouble import MOST_SCOPES
from broker.gateway.refusals import NotFound
from broker.keys import ScopeKeys
from broker.scopes import look_at_scopes
from broker.standing import SubscriberLook, look_at_all
from schemas.names import check_scope

router = APIRouter(route_class=PageRoute)

OneScope = Annotated[str | None, Query(max_length=64)]


@dataclass(frozen=True, slots=True)
class Subscriber:
    """A subscriber of one scope."""

    scope: str
    look: SubscriberLook


async def scopes(gateway: Gateway, scope: str | None) -> list[str]:
    """Return the scope that is asked for, else those that have subscribers."""
    if scope:
        return [check_scope(scope)]
    looks = await look_at_scopes(gateway.connection)
    return [each.scope for each in looks if each.subscribers][:MOST_SCOPES]


@router.get("/events", dependencies=[needs(Role.VIEWER)])
async def show_subscribers(
    request: Request, gateway: OurGateway, scope: OneScope = None
) -> Response:
    """Show every subscriber, of one scope or of all."""
    found = [
        Subscriber(each, look)
        for each in await scopes(gateway, scope)
        for look in await look_at_all(gateway.connection, ScopeKeys(each))
    ]
    return await render(
        request, "subscribers.html", found=found, scope=scope, most=MOST_SCOPES
    )


@router.post("/events/{scope}/{name}/pause", dependencies=[needs(Role.OPERATOR)])
async def pause_subscriber(name: str, manager: OurManager) -> Response:
    """Let nothing new begin at a subscriber."""
    return _done(await manager.subscribers.pause(name), name, manager.scope)


@router.post("/events/{scope}/{name}/resume", dependencies=[needs(Role.OPERATOR)])
async def resume_subscriber(name: str, manager: OurManager) -> Response:
    """Let a subscriber go on."""
    return _done(await manager.subscribers.resume(name), name, manager.scope)


def _done(known: bool, name: str, scope: str) -> Response:
    if not known:
        raise NotFound(f"no subscriber {name!r} in scope {scope!r}")
    return go_to("/events")
