"""Subscribers as the API shows them."""

from __future__ import annotations

from typing import Self

from pydantic import AwareDatetime, Field, model_validator

from broker.dead_letters import LetterFilter
from broker.gateway.forms import Form
from broker.gateway.views import View
from broker.plain import letter_as_plain, subscriber_as_plain
from broker.standing import SubscriberLook
from schemas.events import DeadLetter, EventType


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


class ReplayForm(Form):
    """A range of times of publication, by Redis's clock."""

    since: AwareDatetime
    until: AwareDatetime | None = Field(None, description="null: now")


class ReplayView(View):
    """What a replay came to."""

    replayed: int = Field(description="deliveries that come again")


class LetterForm(Form):
    """Which dead letters are meant; what is null leaves open."""

    subscriber: str | None = None
    type: EventType | None = None
    id: str | None = Field(None, description="of fetches with this id")
    delivery: str | None = Field(None, description="one delivery id")
    all: bool = Field(False, description="true says that all of the scope are meant")

    @model_validator(mode="after")
    def _is_chosen(self) -> Self:
        given = (self.subscriber, self.type, self.id, self.delivery)
        if any(one is not None for one in given) == self.all:
            raise ValueError("say which: subscriber, type, id or delivery, or else all")
        return self

    @property
    def filter(self) -> LetterFilter:
        """The same as the broker says it."""
        return LetterFilter(self.subscriber, self.type, self.id, self.delivery)


class TryView(View):
    """How an attempt to deliver an event ended."""

    attempt: int
    consumer: str = Field(description="the process, or http and the pull")
    at: str | None
    failed: bool = Field(description="false if it was handed back")
    reason: str


class LetterView(View):
    """A delivery that was given up."""

    delivery: str
    state: str = Field(description="failed, unreadable, or expired: a copy")
    scope: str
    subscriber: str
    type: str
    event: str
    uid: str
    id: str
    entry: str = Field(description="the event's id in the scope's stream")
    at: str | None
    failures: int
    reason: str
    attempts: list[TryView] = Field(description="the newest fifty, oldest first")

    @classmethod
    def of(cls, letter: DeadLetter) -> Self:
        """Show a dead letter."""
        return cls.model_validate(letter_as_plain(letter))


class LettersView(View):
    """Dead letters, in the order of publication."""

    items: list[LetterView]


class LettersDoneView(View):
    """What became of the dead letters that were meant."""

    matched: int
    done: int
    skipped: list[str] = Field(
        description="delivery ids of those that had expired, or were gone"
    )
