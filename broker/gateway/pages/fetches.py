"""The list of background fetches."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Depends, Query, Request, Response

from broker.gateway.access import Role, needs
from broker.gateway.gateway import OurGateway
from broker.gateway.pages.cards import Sample
from broker.gateway.pages.catalogue import Listed, Named, counts, listed, named
from broker.gateway.pages.rendering import PageRoute, go_to, render
from broker.gateway.pages.words import plural
from broker.keys import FetchKeys
from schemas.bulk import Action
from schemas.names import check_scope
from schemas.queries import FetchFilter

router = APIRouter(route_class=PageRoute, dependencies=[needs(Role.VIEWER)])

Tab = Literal["all", "active", "paused", "success", "failure", "aborted", "awaiting"]
MOST_TOLD = 200
"""Active fetches whose progress a list hears of; of more it asks for what it shows."""
OFFERED: Mapping[str, tuple[Action, ...]] = {
    "active": (Action.PAUSE, Action.ABORT),
    "paused": (Action.RESUME, Action.ABORT),
    "success": (Action.FORGET,),
    "failure": (Action.RETRY, Action.FORGET),
    "aborted": (Action.RETRY, Action.FORGET),
    "awaiting": (Action.RELEASE,),
}
"""What a tab offers to do to all of its fetches."""
_OF = re.compile(r"([^/]{1,64})/([0-9a-f]{32})-(?:(\d{1,20})-(\d{1,15}))?", re.ASCII)
_ENDS = "success,fail,abort,registered,paused,resumed,openwindow"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a list is asked for; its address says all of it."""

    state: Tab = "all"
    scope: str | None = None
    q: str = ""
    after: str = ""

    def address(
        self, *, state: Tab | None = None, after: str = "", at: str = "/fetches"
    ) -> str:
        """The page that shows the same of another tab, or older ones of this.

        ``at`` is another page about the same fetches.
        """
        wanted = replace(self, state=state or self.state, after=after)
        fields = {
            "scope": wanted.scope or "",
            "state": "" if wanted.state == "all" else wanted.state,
            "q": wanted.q,
            "after": wanted.after,
        }
        query = urlencode({name: value for name, value in fields.items() if value})
        return f"{at}?{query}" if query else at


def _asked(
    state: Tab = "all",
    scope: str | None = None,
    q: Annotated[str, Query(max_length=4096)] = "",
    after: Annotated[str, Query(max_length=256)] = "",
) -> Asked:
    return Asked(state, check_scope(scope) if scope else None, q.strip(), after)


OurAsked = Annotated[Asked, Depends(_asked)]


@router.get("/")
async def show_start() -> Response:
    """Go where people mostly want to be."""
    return go_to("/fetches")


@router.get("/fetches")
async def list_fetches(
    request: Request, gateway: OurGateway, asked: OurAsked
) -> Response:
    """List the fetches of one tab, newest first."""
    filter = FetchFilter.parse(asked.q)
    found = await listed(gateway, asked.scope, asked.state, filter, asked.after)
    poll = found.counts["active"] > MOST_TOLD
    types = _ENDS if poll else f"{_ENDS},progress"
    within = f"/scopes/{quote(asked.scope)}" if asked.scope else ""
    return await render(
        request,
        "fetches.html",
        asked=asked,
        found=found,
        poll=poll,
        stream=f"/api/v1{within}/events?types={types}",
        summary=_summary(asked, filter, found),
        offered=OFFERED.get(asked.state, ()) if found.cards else (),
        matching=0 if filter.is_searching else found.counts[asked.state],
    )


def _summary(asked: Asked, filter: FetchFilter, found: Listed) -> str:
    shown = plural(len(found.cards), "fetch", "fetches")
    if filter.is_searching:
        more = ", and there may be more" if found.older else ""
        return f"{shown} on this page of {found.examined:,} looked at{more}"
    whole = found.counts[asked.state]
    return "" if filter.state or not whole else f"{shown} of {whole:,}, newest first"


@router.get("/fetches/rows")
async def show_rows(
    request: Request,
    gateway: OurGateway,
    asked: OurAsked,
    of: Annotated[list[str] | None, Query(max_length=100)] = None,
) -> Response:
    """Show rows of a list again; ``of``: ``<scope>/<uid>-<bytes>-<ms>`` as seen."""
    rows = [row for each in of or [] if (row := _named(each)) is not None]
    if asked.scope:  # whoever may see one scope may see no other
        rows = [row for row in rows if row.keys.scope == asked.scope]
    return await render(
        request,
        "rows.html",
        asked=asked,
        cards=await named(gateway, rows),
        counts=await counts(gateway, asked.scope),
    )


def _named(text: str) -> Named | None:
    match = _OF.fullmatch(text)
    if match is None:
        return None
    scope, uid, moved, at = match.groups()
    before = Sample(int(moved), int(at)) if at else None
    return Named(FetchKeys(check_scope(scope), uid), before)
