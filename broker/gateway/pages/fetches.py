"""The list of background fetches."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response

from broker.gateway.access import Role, needs
from broker.gateway.gateway import OurGateway
from broker.gateway.pages.catalogue import TABS, listed
from broker.gateway.pages.rendering import PageRoute, go_to, render

router = APIRouter(route_class=PageRoute, dependencies=[needs(Role.VIEWER)])

Tab = Literal["all", "active", "paused", "success", "failure", "aborted"]


@router.get("/")
async def show_start() -> Response:
    """Go where people mostly want to be."""
    return go_to("/fetches")


@router.get("/fetches")
async def list_fetches(
    request: Request,
    gateway: OurGateway,
    state: Tab = "all",
    q: Annotated[str, Query(max_length=4096)] = "",
    after: Annotated[str, Query(max_length=256)] = "",
) -> Response:
    """List the fetches of one tab, newest first."""
    found = await listed(gateway, state, q, after)
    return render(
        request, "fetches.html", tabs=TABS, tab=state, q=q, after=after, found=found
    )
