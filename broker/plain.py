"""Values as JSON for people and programs: the IDL's names, times in ISO 8601."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from broker.records import RecordLook
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


def iso(milliseconds: int) -> str | None:
    """A time of Redis's clock in ISO 8601, UTC; None for 0, which is never."""
    if not milliseconds:
        return None
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
