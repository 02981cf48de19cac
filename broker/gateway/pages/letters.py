"""Dead letters: deliveries that failed too often; replay and purge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, Query, Request, Response

from broker.dead_letters import DeadLetters, LetterFilter
from broker.gateway.access import Role, needs
from broker.gateway.gateway import Gateway, OurGateway
from broker.gateway.pages.rendering import PageRoute, go_to, render
from broker.gateway.pages.subscribers import scopes
from schemas.events import DeadLetter, event_type

router = APIRouter(prefix="/dead", route_class=PageRoute)

Verb = Literal["replay", "purge"]
MOST = 200
"""Dead letters on a page; what is done to all of them is done to the rest as well."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which dead letters a page is about; its address says all of it."""

    scope: str | None
    subscriber: str | None
    type: str | None
    id: str | None

    @property
    def filter(self) -> LetterFilter:
        """The same for those who find letters."""
        type = event_type(self.type) if self.type else None
        return LetterFilter(self.subscriber, type, self.id)

    def address(self, verb: str = "") -> str:
        """The page about these letters, or where a verb is posted."""
        fields = {
            "scope": self.scope,
            "subscriber": self.subscriber,
            "type": self.type,
            "id": self.id,
        }
        query = urlencode({name: value for name, value in fields.items() if value})
        return f"/dead{verb}?{query}" if query else f"/dead{verb}"


Field = Annotated[str | None, Query(max_length=1024)]


def _asked(
    scope: Field = None, subscriber: Field = None, type: Field = None, id: Field = None
) -> Asked:
    return Asked(scope or None, subscriber or None, type or None, id or None)


OurAsked = Annotated[Asked, Depends(_asked)]


@router.get("", dependencies=[needs(Role.VIEWER)])
async def show_letters(
    request: Request, gateway: OurGateway, asked: OurAsked
) -> Response:
    """Show dead letters, the oldest first."""
    found: list[DeadLetter] = []
    for scope in await scopes(gateway, asked.scope):
        found += await _letters(gateway, scope).find(asked.filter, most=MOST + 1)
        if len(found) > MOST:
            break
    return await render(
        request,
        "letters.html",
        asked=asked,
        found=found[:MOST],
        more=len(found) > MOST,
        now=await gateway.connection.now(),
    )


@router.get("/{verb}", dependencies=[needs(Role.OPERATOR)])
async def ask_before(
    request: Request, verb: Verb, gateway: OurGateway, asked: OurAsked
) -> Response:
    """Ask whether all these letters shall be replayed, or purged."""
    count = 0
    for scope in await scopes(gateway, asked.scope):
        count += len(await _letters(gateway, scope).find(asked.filter))
    return await render(
        request, "letters_sure.html", asked=asked, verb=verb, count=count
    )


@router.post("/{verb}", dependencies=[needs(Role.OPERATOR)])
async def do_to_letters(
    verb: Verb,
    gateway: OurGateway,
    asked: OurAsked,
    delivery: Annotated[str, Form(max_length=2048)] = "",
) -> Response:
    """Replay or purge one letter, else all that are asked for."""
    wanted = asked.filter if not delivery else LetterFilter(delivery_id=delivery)
    for scope in await scopes(gateway, asked.scope):
        letters = _letters(gateway, scope)
        does = letters.replay if verb == "replay" else letters.purge
        for letter in await letters.find(wanted):
            await does(letter)
    return go_to(asked.address())


def _letters(gateway: Gateway, scope: str) -> DeadLetters:
    return DeadLetters(gateway.connection, gateway.settings, scope)
