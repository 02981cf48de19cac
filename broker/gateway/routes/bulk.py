"""One action on all fetches that a filter matches, over HTTP."""

from __future__ import annotations

from dataclasses import replace
from typing import Self

from fastapi import APIRouter
from pydantic import Field

from broker.bulk import Bulk
from broker.gateway.access import Role, needs
from broker.gateway.api_route import JSONRoute, OurCall
from broker.gateway.documents import WRITING, problems
from broker.gateway.forms import Form
from broker.gateway.gateway import Gateway, OurGateway, OurManager
from broker.gateway.once import Call
from broker.gateway.views import View
from schemas.bulk import Action, BulkOutcome
from schemas.errors import InvalidFilter
from schemas.queries import FetchFilter

router = APIRouter(
    tags=["actions"],
    route_class=JSONRoute,
    dependencies=[needs(Role.OPERATOR)],
    responses=problems(*WRITING, InvalidFilter),
)


class ActionForm(Form):
    """What is to be done, and to which fetches."""

    action: Action
    filter: str = Field(
        "",
        description="qualifiers, as for lists; none: every fetch in a state in which "
        "the action makes sense",
        examples=["state:failed reason:bad-status"],
    )
    force: bool = Field(
        False, description="of forget: also where events are not settled"
    )

    async def done(
        self, gateway: Gateway, call: Call | None, scope: str | None
    ) -> BulkView:
        """Do it, and show what came of it.

        Raises:
            InvalidFilter: the filter cannot be understood, or is about another scope.
        """
        filter = FetchFilter.parse(self.filter)
        if scope is not None:
            if filter.scope not in (None, scope):
                raise InvalidFilter(
                    f"'scope:{filter.scope}' asks for others than those of {scope!r}"
                )
            filter = replace(filter, scope=scope)
        bulk = Bulk(gateway.connection, gateway.settings, gateway.shared)
        token = call.token if call is not None else None
        outcome = await bulk.run(self.action, filter, force=self.force, token=token)
        return BulkView.of(outcome)


class ToldView(View):
    """Why nothing was done to a fetch."""

    scope: str
    uid: str
    id: str
    error: str


class BulkView(View):
    """What came of an action on many fetches."""

    matched: int
    done: int
    skipped: int = Field(description="it was not possible, or not needed")
    failed: int = Field(description="they match the next call again")
    told: list[ToldView] = Field(description="of the first skipped or failed ones: why")

    @classmethod
    def of(cls, outcome: BulkOutcome) -> Self:
        """Show an outcome."""
        return cls.model_validate(outcome.model_dump(exclude={"examined", "finished"}))


@router.post("/scopes/{scope}/fetches/actions", summary="Act on many fetches")
async def act_on_fetches(
    form: ActionForm, manager: OurManager, gateway: OurGateway, call: OurCall
) -> BulkView:
    """Do something to every fetch of a scope that the filter matches.

    The answer comes when all is done. If it does not come, the same request with the
    same `Idempotency-Key` goes on where the first one stopped, and does nothing twice.
    """
    return await form.done(gateway, call, manager.scope)


@router.post("/fetches/actions", summary="Act on many fetches of all scopes")
async def act_on_all_fetches(
    form: ActionForm, gateway: OurGateway, call: OurCall
) -> BulkView:
    """Do something to every fetch of every scope that the filter matches.

    As for one scope.
    """
    return await form.done(gateway, call, None)
