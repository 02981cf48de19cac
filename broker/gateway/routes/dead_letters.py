"""Dead letters over HTTP: look at them, deliver them again, give them up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from broker.dead_letters import DeadLetters, LetterFilter
from broker.gateway.access import Role, needs
from broker.gateway.api_route import JSONRoute, OurCall
from broker.gateway.documents import WRITING, problems
from broker.gateway.gateway import OurManager
from broker.gateway.subscriber_views import (
    LetterForm,
    LettersDoneView,
    LettersView,
    LetterView,
)
from schemas.events import DeadLetter, EventType

router = APIRouter(
    prefix="/scopes/{scope}/dead-letters", tags=["subscribers"], route_class=JSONRoute
)


async def letters_of(manager: OurManager) -> DeadLetters:
    """The dead letters of the scope in the path of a request."""
    return DeadLetters(manager.connection, manager.settings, manager.scope)


OurLetters = Annotated[DeadLetters, Depends(letters_of)]


@router.get("", dependencies=[needs(Role.VIEWER)], summary="Dead letters")
async def list_dead_letters(
    letters: OurLetters,
    subscriber: Annotated[str | None, Query(description="of this one")] = None,
    type: Annotated[EventType | None, Query(description="of this type")] = None,
    id: Annotated[str | None, Query(description="of fetches with this id")] = None,
    delivery: Annotated[str | None, Query(description="one delivery id")] = None,
) -> LettersView:
    """Return dead letters with who failed, when and why, in order of publication."""
    found = await letters.find(LetterFilter(subscriber, type, id, delivery))
    return LettersView(items=[LetterView.of(letter) for letter in found])


@router.post(
    "/replay",
    dependencies=[needs(Role.OPERATOR)],
    responses=problems(*WRITING),
    summary="Deliver them again",
)
async def replay_dead_letters(
    letters: OurLetters, form: LetterForm, call: OurCall
) -> LettersDoneView:
    """Deliver them again at once: the same deliveries, their failures forgotten."""
    return await _each(letters, form, letters.replay)


@router.post(
    "/purge",
    dependencies=[needs(Role.OPERATOR)],
    responses=problems(*WRITING),
    summary="Give them up",
)
async def purge_dead_letters(
    letters: OurLetters, form: LetterForm, call: OurCall
) -> LettersDoneView:
    """Give them up for ever: their deliveries are settled, as purged."""
    return await _each(letters, form, letters.purge)


async def _each(
    letters: DeadLetters,
    form: LetterForm,
    act: Callable[[DeadLetter], Awaitable[bool]],
) -> LettersDoneView:
    found = await letters.find(form.filter)
    skipped = [letter.delivery_id for letter in found if not await act(letter)]
    done = len(found) - len(skipped)
    return LettersDoneView(matched=len(found), done=done, skipped=skipped)
