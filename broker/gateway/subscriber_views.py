"""Subscribers as the API shows them."""

from __future__ import annotations

from typing import Self

from pydantic import Field

from broker.gateway.views import View
from broker.plain import subscriber_as_plain
from broker.standing import SubscriberLook


class SubscriberView(View):
    """A subscriber, and how it is getting on."""

    subscriber: str = Field(examples=["billing"])
    processes: int = Field(description="processes that live, and pulls that are open")
    lag: int = Field(description="events that nobody of it has read yet")
    pending: int = Field(description="deliveries that are being handled")
    waiting: int = Field(description="deliveries that wait for another attempt")
    dead: int = Field(description="dead letters")
    oldest_seconds: float | None = Field(
        description="age of the oldest event that it has not handled"
    )
    state: str = Field(description="active, paused or expired")
    types: list[str] = Field(description="its filter: types of events")
    ids: str = Field(description="its filter: a pattern for ids of fetches")
    excluded: int = Field(description="events that the filter kept away")

    @classmethod
    def of(cls, look: SubscriberLook) -> Self:
        """Show how a subscriber stands."""
        return cls.model_validate(subscriber_as_plain(look))


class SubscribersView(View):
    """The subscribers of a scope, by name."""

    items: list[SubscriberView]
