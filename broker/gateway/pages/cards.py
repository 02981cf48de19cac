"""A background fetch as pages show it: what moves, how fast, and why it waits."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote

from schemas.fetches import FailureReason, FetchState, Result
from schemas.urls import origin_of


class Look(StrEnum):
    """How a fetch stands, as its colour and its word tell."""

    ACTIVE = "active"
    WAITING = "waiting"
    PAUSED = "paused"
    PROMPT = "prompt"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True)
class Sample:
    """How many bytes had been moved at some time, in milliseconds."""

    moved: int
    at: int


@dataclass(frozen=True, slots=True)
class Card:
    """One fetch at one moment."""

    state: FetchState
    now: int
    """The moment, by Redis's clock: milliseconds since the epoch."""
    waits: str = ""
    """Why nothing moves, for people; empty if nothing is known."""
    before: Sample | None = None
    """What a page showed earlier, to tell the speed by."""

    @property
    def name(self) -> str:
        """What people call it."""
        return self.state.title.strip() or self.state.id

    @property
    def address(self) -> str:
        """The page of this fetch."""
        return f"/fetches/{quote(self.state.scope)}/{self.state.uid}"

    @property
    def origin(self) -> str:
        """The origin of the owning scope, which is always shown (BF-DISP-01)."""
        return origin_of(self.state.base_url) if self.state.base_url else ""

    @property
    def is_active(self) -> bool:
        """Whether it has not ended."""
        return self.state.result is Result.ACTIVE

    @property
    def look(self) -> Look:
        """How it stands."""
        state = self.state
        if state.result is Result.SUCCESS:
            return Look.SUCCEEDED
        if state.result is Result.FAILURE:
            aborted = state.failure_reason is FailureReason.ABORTED
            return Look.ABORTED if aborted else Look.FAILED
        if state.prompt:
            return Look.PROMPT
        if state.paused:
            return Look.PAUSED
        return Look.WAITING if self.waits else Look.ACTIVE

    @property
    def moved(self) -> int:
        """Bytes received and sent (BF-DISP-13)."""
        return self.state.downloaded + self.state.uploaded

    @property
    def total(self) -> int:
        """Bytes to be moved; 0 where that is not known."""
        state = self.state
        return state.download_total + state.upload_total if state.download_total else 0

    @property
    def percent(self) -> int | None:
        """0 to 100, rounded down; None where the total is not known (BF-DISP-06)."""
        return min(100, 100 * self.moved // self.total) if self.total else None

    @property
    def settled_records(self) -> int:
        """Records that are done."""
        return self.state.records - self.state.open_records

    @property
    def took(self) -> float:
        """Seconds from its registration to its result, or to this moment."""
        until = self.state.settled_at or self.now
        return max(0, until - self.state.created_at) / 1000

    @property
    def speed(self) -> float | None:
        """Bytes a second: lately if a page looked before, else since it was registered.

        None while that says nothing.
        """
        if self.look is not Look.ACTIVE and self.is_active:
            return None
        before = self.before if self.is_active else None
        since = before or Sample(0, self.state.created_at)
        until = self.now if self.is_active else self.state.settled_at
        seconds, moved = (until - since.at) / 1000, self.moved - since.moved
        return moved / seconds if seconds >= 0.1 and moved > 0 else None

    @property
    def left(self) -> float | None:
        """Seconds until it is done, if it goes on like this; None if nobody knows."""
        speed = self.speed
        if not (speed and self.total and self.is_active):
            return None
        return max(0, self.total - self.moved) / speed
