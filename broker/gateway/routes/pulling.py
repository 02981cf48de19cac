"""Events for subscribers in any language: join, pull, acknowledge."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Request

from broker.gateway.access import Role, needs
from broker.gateway.api_route import JSONRoute
from broker.gateway.deliveries import (
    AckForm,
    DeliveryView,
    ExtendForm,
    JoinForm,
    NackForm,
    OutcomesView,
    OutcomeView,
    PullForm,
    PullView,
)
from broker.gateway.documents import WRITING, problems
from broker.gateway.gateway import OurGateway
from broker.gateway.polling import poll
from broker.gateway.refusals import NotFound, StaleDeliveries, WrongForm
from broker.gateway.subscriber_views import SubscriberView
from broker.holding import Held, Nack
from broker.pulling import Pulling
from broker.subscribers import Subscribers
from schemas.errors import ConfigError, InvalidState

router = APIRouter(
    prefix="/scopes/{scope}/subscribers/{name}",
    tags=["deliveries"],
    route_class=JSONRoute,
    dependencies=[needs(Role.SUBSCRIBER)],
    responses=problems(*WRITING, NotFound, InvalidState),
)

Name = Annotated[str, Path(description="a subscriber", examples=["billing"])]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        max_length=255,
        description="new for each pull: with the same one, a repetition after a lost "
        "answer gets the same deliveries, from any gateway",
    ),
]


async def pulling_of(scope: str, name: Name, gateway: OurGateway) -> Pulling:
    """The subscriber in the path of a request, whether it exists or not."""
    return Pulling(gateway.connection, gateway.settings, scope, name)


OurPulling = Annotated[Pulling, Depends(pulling_of)]


@router.put("", summary="Join")
async def join_subscriber(
    pulling: OurPulling, gateway: OurGateway, form: JoinForm
) -> SubscriberView:
    """Make sure that a subscriber exists, with this filter.

    Another filter than it had counts for events from now on. `start` matters only where
    the subscriber is new. The first subscriber of a scope gets what waited for one.
    """
    try:
        takes = form.takes
    except ConfigError as error:
        raise WrongForm(str(error)) from error
    await pulling.join(takes, form.begins)
    connection, settings = gateway.connection, gateway.settings
    looks = await Subscribers(connection, settings, pulling.scope).look()
    for look in looks:
        if look.name == pulling.subscriber:
            return SubscriberView.of(look)
    raise NotFound(f"subscriber {pulling.subscriber!r} was removed meanwhile")


@router.post("/pull", summary="Pull deliveries")
async def pull_deliveries(
    request: Request,
    gateway: OurGateway,
    pulling: OurPulling,
    form: PullForm,
    key: Key = None,
) -> PullView:
    """Take deliveries that nobody holds: at once, or as soon as there are any.

    Each is the caller's until its lease ends: acknowledge it, or extend it while it is
    handled; else it counts as failed and comes again, to whoever pulls. While the
    subscriber is paused there are none.
    """
    if not await pulling.exists():
        raise NotFound(
            f"no subscriber {pulling.subscriber!r} in scope {pulling.scope!r}: "
            "PUT it first"
        )
    pull = await pulling.pull(key, form.held)
    try:
        taken = await poll(
            *(gateway, request, pull),
            scope=pulling.scope,
            most=form.max,
            wait=form.wait,
        )
    finally:
        await pull.aclose()
    return PullView(deliveries=[DeliveryView.of(one) for one in taken])


@router.post("/ack", summary="Acknowledge", responses=problems(StaleDeliveries))
async def ack_deliveries(pulling: OurPulling, form: AckForm) -> OutcomesView:
    """Settle deliveries: they are handled, and never come again.

    Repeated after a lost answer it gets the same answer. 409 if somebody else holds one
    by now, or had it since; the others are acknowledged all the same.
    """
    held = _held(pulling, form.tokens)
    acked = await pulling.ack(held)
    return _outcomes(form.tokens, ["acked" if one else "" for one in acked])


@router.post("/nack", summary="Refuse", responses=problems(StaleDeliveries))
async def nack_deliveries(pulling: OurPulling, form: NackForm) -> OutcomesView:
    """End an attempt: the deliveries come again, after a delay.

    A failure counts; after `BGFETCH_MAX_DELIVERIES` of them it is a dead letter.
    """
    delay = None if form.delay is None else timedelta(seconds=form.delay)
    verdicts = await pulling.nack(
        _held(pulling, form.tokens),
        failed=form.failed,
        reason=form.reason or "refused over HTTP",
        delay=delay,
    )
    told = ["" if one is Nack.STALE else str(one) for one in verdicts]
    return _outcomes(form.tokens, told)


@router.post("/extend", summary="Extend leases", responses=problems(StaleDeliveries))
async def extend_deliveries(pulling: OurPulling, form: ExtendForm) -> OutcomesView:
    """Keep deliveries for so long from now; 409 if one is not the caller's any more."""
    lease = timedelta(seconds=form.lease)
    kept = await pulling.extend(_held(pulling, form.tokens), lease)
    return _outcomes(form.tokens, ["extended" if one else "" for one in kept])


def _held(pulling: Pulling, tokens: Sequence[str]) -> list[Held]:
    return [pulling.held(token) for token in dict.fromkeys(tokens)]


def _outcomes(tokens: Sequence[str], outcomes: Sequence[str]) -> OutcomesView:
    told = list(zip(dict.fromkeys(tokens), outcomes, strict=True))
    if stale := [token for token, outcome in told if not outcome]:
        raise StaleDeliveries.of(stale)
    return OutcomesView(
        results=[OutcomeView(token=token, outcome=outcome) for token, outcome in told]
    )
