"""Lifecycle events as messages: what a subscriber receives (§ Events)."""

from __future__ import annotations

from enum import StrEnum

from schemas.errors import ConfigError
from schemas.fetches import FailureReason, FetchState, Result
from schemas.messages import VERSION, Many, Message


class EventType(StrEnum):
    """The four functional events of a background fetch (BF-IDL-16)."""

    SUCCESS = "backgroundfetchsuccess"
    FAIL = "backgroundfetchfail"
    ABORT = "backgroundfetchabort"
    CLICK = "backgroundfetchclick"


def event_type(name: str) -> EventType:
    """The event that a person means by ``backgroundfetchfail``, or ``fail``.

    Raises:
        ConfigError: there is no such event.
    """
    for type in EventType:
        if name in (type, type.removeprefix("backgroundfetch")):
            return type
    known = ", ".join(repr(str(type)) for type in EventType)
    raise ConfigError(f"no event {name!r}: there are {known}")


def completion_event(result: Result, reason: FailureReason) -> EventType:
    """The one event that ends a fetch with this outcome (BF-PERF-07)."""
    if result is Result.SUCCESS:
        return EventType.SUCCESS
    return EventType.ABORT if reason is FailureReason.ABORTED else EventType.FAIL


class DeliveryOutcome(StrEnum):
    """How a delivery was settled; each one has one outcome, for ever."""

    ACKED = "acked"
    """Its promises have settled: it was handled."""
    PURGED = "purged"
    """It failed too often, and somebody gave it up."""
    EXPIRED = "expired"
    """Nobody had settled it when the fetch's retention ended."""
    REMOVED = "removed"
    """Its subscriber was removed."""


class EventMessage(Message):
    """A ``BackgroundFetchEvent`` on the scope's stream and channel.

    ``event`` names it within its fetch: the type, for clicks with a number.
    ``predecessor`` is the ``event`` published before it for the same fetch (R19).
    """

    v: int = VERSION
    """The version of the schema."""
    type: EventType
    event: str
    time_stamp: int
    """Milliseconds since the epoch, by Redis's clock."""
    predecessor: str = ""
    registration: FetchState


class WindowMessage(Message):
    """A listener asked for a window: a link that the clicking person follows."""

    v: int = VERSION
    uid: str
    id: str
    event: str
    url: str
    scope: str = ""
    client: str = ""
    """Who clicked, if it is one of a gateway's clients; else it is for all."""


class LetterState(StrEnum):
    """Why a delivery is a dead letter."""

    FAILED = "failed"
    """Every attempt failed. It waits to be replayed or purged."""
    UNREADABLE = "unreadable"
    """A process could not read the event. It waits to be replayed or purged."""
    EXPIRED = "expired"
    """It is settled, as expired; this is a copy for people."""


class DeliveryAttempt(Message):
    """How one attempt to deliver an event ended."""

    attempt: int
    consumer: str = ""
    """The process: its host, its id there, and something random."""
    at: int
    """Milliseconds since the epoch, by Redis's clock."""
    failed: bool = True
    """False if the process handed it back, as it does when it is stopped."""
    reason: str = ""


class DeadLetter(Message):
    """A delivery that was given up, with its history."""

    v: int = VERSION
    state: LetterState
    scope: str = ""
    subscriber: str
    entry: str
    """The event's entry in the scope's stream."""
    uid: str = ""
    id: str = ""
    event: str = ""
    at: int
    """When it was given up: milliseconds since the epoch, by Redis's clock."""
    failures: int = 0
    reason: str = ""
    """Why the last attempt failed, or what was wrong."""
    attempts: Many[DeliveryAttempt] = ()
    """The newest fifty, oldest first."""
    message: EventMessage | None = None
    """The event, unless it is unreadable or large."""

    @property
    def type(self) -> str:
        """The type of the event; empty if even that cannot be read."""
        return self.event.partition(".")[0]

    @property
    def delivery_id(self) -> str:
        """What listeners see as ``event.delivery_id``."""
        if not self.uid:
            return f"{self.entry}/{self.subscriber}"
        return f"{self.uid}/{self.event}/{self.subscriber}"

    @property
    def member(self) -> str:
        """Its name among the subscriber's dead letters."""
        return f"{self.entry}/{self.uid}/{self.event}" if self.uid else self.entry
