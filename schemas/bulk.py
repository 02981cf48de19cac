"""Actions on all fetches that a filter matches, and what comes of them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from schemas.messages import Many, Message
from schemas.queries import ListedState


class Action(StrEnum):
    """What can be done to many fetches at once."""

    ABORT = "abort"
    PAUSE = "pause"
    RESUME = "resume"
    RETRY = "retry"
    CLICK = "click"
    RELEASE = "release"
    FORGET = "forget"


_ACTIVE = (ListedState.ACTIVE, ListedState.PAUSED)
_ENDED = (ListedState.SUCCESS, ListedState.FAILURE, ListedState.ABORTED)
STATES: Mapping[Action, tuple[ListedState, ...]] = {
    Action.ABORT: _ACTIVE,
    Action.PAUSE: (ListedState.ACTIVE,),
    Action.RESUME: (ListedState.PAUSED,),
    Action.RETRY: (ListedState.FAILURE, ListedState.ABORTED),
    Action.CLICK: (*_ACTIVE, *_ENDED),
    Action.RELEASE: (ListedState.AWAITING,),
    Action.FORGET: _ENDED,
}
"""The lists in which an action looks for fetches, unless its filter names one."""


class Told(Message):
    """Why a fetch was skipped, or an action on it failed."""

    scope: str
    uid: str
    id: str = ""
    error: str = ""


class BulkOutcome(Message):
    """How far an action on many fetches has come."""

    matched: int = 0
    done: int = 0
    """Also what a call with the same token had done before."""
    skipped: int = 0
    """It was not possible, or not needed: they had changed their state, for one."""
    failed: int = 0
    """Their surroundings failed: they match another call."""
    examined: int = 0
    """Fetches that were looked at."""
    finished: bool = False
    told: Many[Told] = ()
    """Of the first that were skipped or failed: why."""
