"""Values as JSON for people and programs: the IDL's names, times in ISO 8601."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from broker.origins import OriginLook
from broker.records import RecordLook
from broker.standing import SubscriberLook
from schemas.events import DeadLetter
from schemas.fetches import FetchState
from schemas.requests import Request


def as_plain(state: FetchState) -> dict[str, Any]:
    """A background fetch."""
    return state.model_dump(mode="json", by_alias=True) | {
        "createdAt": iso(state.created_at),
        "settledAt": iso(state.settled_at),
    }


def record_as_plain(request: Request, look: RecordLook) -> dict[str, Any]:
    """A record, as it stood at a look at it; names in the manner of the IDL."""
    return {
        "url": request.url,
        "method": request.method,
        "result": str(look.outcome),
        "failureReason": look.state.detail,
        "status": look.status,
        "downloaded": look.stored,
        "length": look.length,
        "attempts": look.state.attempts,
    }


def subscriber_as_plain(look: SubscriberLook) -> dict[str, Any]:
    """How a subscriber stands."""
    oldest = None if look.oldest is None else look.oldest.total_seconds()
    return {
        "subscriber": look.name,
        "processes": look.processes,
        "lag": look.lag,
        "pending": look.pending,
        "waiting": look.waiting,
        "dead": look.dead,
        "oldestSeconds": oldest,
        "state": str(look.state),
        "types": sorted(look.takes.types),
        "ids": look.takes.ids,
        "excluded": look.excluded,
    }


def letter_as_plain(letter: DeadLetter) -> dict[str, Any]:
    """A dead letter, without its event."""
    plain = letter.model_dump(mode="json", by_alias=True, exclude={"message", "v"})
    attempts = [each | {"at": iso(each["at"])} for each in plain["attempts"]]
    more = {"delivery": letter.delivery_id, "type": letter.type}
    return more | plain | {"at": iso(letter.at), "attempts": attempts}


def origin_as_plain(look: OriginLook) -> dict[str, Any]:
    """How all workers together stand with an origin."""
    return {
        "origin": look.origin,
        "inUse": look.used,
        "processes": look.processes,
        "limit": look.limit,
        "base": look.base,
        "rate": look.rate,
        "pausedUntil": iso(look.paused_until or 0),
        "loweredAt": iso(look.lowered_at or 0),
        "reason": look.reason,
    }


def iso(milliseconds: int) -> str | None:
    """A time of Redis's clock in ISO 8601, UTC; None for 0, which is never."""
    if not milliseconds:
        return None
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
