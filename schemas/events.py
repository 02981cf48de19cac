"""Lifecycle events as messages: what a subscriber receives (§ Events)."""

from __future__ import annotations

from enum import StrEnum

from schemas.fetches import FailureReason, FetchState, Result
from schemas.messages import VERSION, Message


class EventType(StrEnum):
    """The four functional events of a background fetch (BF-IDL-16)."""

    SUCCESS = "backgroundfetchsuccess"
    FAIL = "backgroundfetchfail"
    ABORT = "backgroundfetchabort"
    CLICK = "backgroundfetchclick"


def completion_event(result: Result, reason: FailureReason) -> EventType:
    """The one event that ends a fetch with this outcome (BF-PERF-07)."""
    if result is Result.SUCCESS:
        return EventType.SUCCESS
    return EventType.ABORT if reason is FailureReason.ABORTED else EventType.FAIL


class EventMessage(Message):
    """A ``BackgroundFetchEvent`` on the scope's stream and channel.

    ``event`` names it within its fetch: the type, for clicks with a number.
    ``predecessor`` is the ``event`` published before it for the same fetch (R19).
    """

    v: int = VERSION
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
