"""What happened to one background fetch, moment by moment, for people."""

from __future__ import annotations

from enum import StrEnum

from schemas.messages import Message


class Happening(StrEnum):
    """What can happen to a background fetch, its records and its events."""

    CREATED = "created"
    PAUSED = "paused"
    RESUMED = "resumed"
    LANE_STARTED = "lane-started"
    LANE_LOST = "lane-lost"
    """Its process died; another one goes on."""
    RECORD_WAITS = "record-waits"
    """An attempt at a record failed, and another one follows."""
    RECORD_FAILED = "record-failed"
    ENDED = "ended"
    PUBLISHED = "published"
    """An event of it; clicks are events, too."""
    BEGUN = "begun"
    """A subscriber's process began to handle an event."""
    FAILED = "failed"
    """Its handler did, and the event is delivered again, or is a dead letter."""
    HANDED_BACK = "handed-back"
    """Its process stopped, and the event is delivered again."""
    ACKED = "acked"
    PURGED = "purged"
    EXPIRED = "expired"
    REMOVED = "removed"
    """The event is settled at a subscriber that was removed."""
    RELEASED = "released"
    """Its records are no longer readable."""


class Moment(Message):
    """One thing that happened."""

    at: int
    """Milliseconds since the epoch, by Redis's clock."""
    what: Happening
    detail: str = ""
    """For people: where, how often, and why."""
    event: str = ""
    """The event's name within the fetch, where it is about one."""
    subscriber: str = ""


class DeliveryLook(Message):
    """How an event of a fetch stands at one subscriber, at one moment."""

    event: str
    """Its name within the fetch."""
    subscriber: str
    state: str
    """``new``, ``held``, ``waiting``, ``dead``, or its outcome, as ``acked``."""
    published_at: int
    """Milliseconds since the epoch, as all times here."""
    attempt: int = 0
    failures: int = 0
    holder: str = ""
    """The process that handles it, if one does; else the last that did."""
    held_until: int | None = None
    """When the holder's lease ends, unless it is extended."""
    due_at: int | None = None
    """When it is handed out next."""
    owed: bool = True
    """Whether the event waits for it; a replay, for one, it does not wait for."""
