"""Values as JSON for people and programs: the IDL's names, times in ISO 8601."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from schemas.fetches import FetchState


def as_plain(state: FetchState) -> dict[str, Any]:
    """A background fetch."""
    return state.model_dump(mode="json", by_alias=True) | {
        "createdAt": iso(state.created_at),
        "settledAt": iso(state.settled_at),
    }


def iso(milliseconds: int) -> str | None:
    """A time of Redis's clock in ISO 8601, UTC; None for 0, which is never."""
    if not milliseconds:
        return None
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
