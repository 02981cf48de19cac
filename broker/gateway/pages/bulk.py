"""What is done to all fetches that a list matches: a question first, then progress."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from broker.bulk import Bulk
from broker.gateway.access import Role, needs
from broker.gateway.gateway import OurGateway
from broker.gateway.pages.fetches import Asked, OurAsked
from broker.gateway.pages.rendering import PageRoute, render
from schemas.bulk import Action, BulkOutcome
from schemas.queries import FetchFilter, listed_state

router = APIRouter(
    prefix="/bulk", route_class=PageRoute, dependencies=[needs(Role.OPERATOR)]
)

PATIENCE_SECONDS = 15
"""How long an answer waits for the end; then a person goes on, with the same token."""


def meant(asked: Asked) -> FetchFilter:
    """The fetches of a list, on all of its pages.

    Raises:
        InvalidFilter: the filter cannot be understood.
    """
    filter = FetchFilter.parse(asked.q)
    state = filter.state if asked.state == "all" else listed_state(asked.state)
    return replace(filter, scope=asked.scope or filter.scope, state=state)


@router.get("/{action}")
async def ask_before_all(request: Request, action: Action, asked: OurAsked) -> Response:
    """Ask whether all these fetches are meant."""
    return await render(
        request,
        "bulk_sure.html",
        action=action,
        asked=asked,
        meant=str(meant(asked)),
        token=secrets.token_hex(16),
    )


@router.post("/{action}")
async def do_to_all(
    request: Request,
    action: Action,
    gateway: OurGateway,
    asked: OurAsked,
    token: Annotated[str, Form(pattern="^[0-9a-f]{32}$")],
) -> Response:
    """Act on all that are meant; what is not done in time goes on with the token."""
    told: list[BulkOutcome] = [BulkOutcome()]
    bulk = Bulk(gateway.connection, gateway.settings)
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_SECONDS):
            found = await bulk.run(
                action, meant(asked), token=token, progress=told.append
            )
            told.append(found)
    return await render(
        request,
        "bulk_done.html",
        action=action,
        asked=asked,
        outcome=told[-1],
        token=token,
    )
