"""What callers that take events send and get."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field

from broker.gateway.forms import Form
from broker.gateway.views import FetchView, View
from broker.inbox import Start
from broker.plain import iso
from broker.pull import Pulled
from schemas.filters import ALL, EventFilter

MOST = 64
"""Deliveries in one pull."""

Lease = Annotated[
    float,
    Field(ge=1, le=12 * 3600, description="seconds until a delivery is another's"),
]
Tokens = Annotated[
    list[str],
    Field(
        min_length=1,
        max_length=MOST,
        description="those of the deliveries that are meant",
        examples=[["1763836200000-0/4f1c…/backgroundfetchsuccess/9f8e7d6c5b4a3210"]],
    ),
]


class JoinForm(Form):
    """Which events a subscriber takes, and where a new one starts."""

    types: list[str] | None = Field(
        None, description="null: all", examples=[["success", "fail"]]
    )
    ids: str = Field(ALL, description="a pattern for ids of fetches", examples=["ep-*"])
    start: Literal["new", "all"] | AwareDatetime = Field(
        "new", description="of a subscriber that is new: new, all, or a time"
    )

    @property
    def takes(self) -> EventFilter:
        """The filter; raises ConfigError where there is no such."""
        return EventFilter.of(self.types, self.ids)

    @property
    def begins(self) -> Start:
        """Where a new subscriber starts."""
        return self.start


class PullForm(Form):
    """How many deliveries, how long to wait for one, and how long they are held."""

    max: int = Field(10, ge=1, le=MOST)
    wait: float = Field(0, ge=0, le=60, description="seconds to wait for the first")
    lease: Lease = 30

    @property
    def held(self) -> timedelta:
        """The lease."""
        return timedelta(seconds=self.lease)


class AckForm(Form):
    """Deliveries that are handled."""

    tokens: Tokens


class NackForm(AckForm):
    """Deliveries that are not: they come again."""

    failed: bool = Field(
        True, description="false hands them back: that counts as no failure"
    )
    reason: str = Field("", description="for people", examples=["the disk is full"])
    delay: float | None = Field(
        None,
        ge=0,
        le=7 * 24 * 3600,
        description="seconds; null: longer from failure to failure",
    )


class ExtendForm(AckForm):
    """Deliveries that are still being handled."""

    lease: Lease = 30


class EventView(View):
    """A `BackgroundFetchEvent`."""

    type: str = Field(examples=["backgroundfetchsuccess"])
    event: str = Field(
        description="its name within the fetch", examples=["backgroundfetchclick.1"]
    )
    time_stamp: str | None = Field(description="when it was published")
    registration: FetchView = Field(description="the fetch as the delivery began")


class DeliveryView(View):
    """An event, in the hands of the caller until the lease ends."""

    delivery_id: str = Field(description="the same for every attempt")
    attempt: int = Field(description="1 for the first")
    failures: int = Field(description="attempts that have failed")
    token: str = Field(description="what to acknowledge, extend and refuse it with")
    lease_until: str = Field(examples=["2026-11-22T18:30:30.000Z"])
    event: EventView

    @classmethod
    def of(cls, pulled: Pulled) -> Self:
        """Show a delivery."""
        begun = pulled.begun
        message = begun.delivery.message
        return cls(
            delivery_id=begun.delivery.delivery_id,
            attempt=begun.attempt,
            failures=begun.failures,
            token=pulled.token,
            lease_until=iso(round(pulled.until.timestamp() * 1000)) or "",
            event=EventView(
                type=message.type,
                event=message.event,
                time_stamp=iso(message.time_stamp),
                registration=FetchView.of(begun.state),
            ),
        )


class PullView(View):
    """What there is."""

    deliveries: list[DeliveryView]


class OutcomeView(View):
    """What became of a delivery."""

    token: str
    outcome: str = Field(
        description="acked, extended, waiting for its next attempt, or dead"
    )


class OutcomesView(View):
    """What became of each, in the order in which they were named."""

    results: list[OutcomeView]
