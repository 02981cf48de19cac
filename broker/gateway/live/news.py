"""What a reader is told: each message is encoded once, and only if it is sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from fastapi.sse import format_sse_event

from broker.plain import as_plain, iso
from schemas import codec
from schemas.errors import InvalidMessage
from schemas.events import EventMessage, EventType, WindowMessage
from schemas.fetches import FetchState

log = structlog.get_logger()

PROGRESS, WINDOW = "progress", "openwindow"
REGISTERED, PAUSED, RESUMED = "registered", "paused", "resumed"
LIFECYCLE = frozenset(map(str, EventType))
"""The events of the scope's stream."""
TYPES = LIFECYCLE | {PROGRESS, WINDOW, REGISTERED, PAUSED, RESUMED}
"""Everything that a reader can ask for."""

RETRY_MS = 1000
"""How long a reader waits before it connects again."""

Told = Mapping[str, Any]
"""A registration as the progress channel and the registration hash tell it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a reader is to hear of."""

    scope: str | None = None
    """None for every scope."""
    uid: str | None = None
    """None for every fetch."""
    types: frozenset[str] = TYPES


class News:
    """One message for many readers."""

    __slots__ = ("_encoded", "_make", "key", "type")

    def __init__(self, type: str, key: str, make: Callable[[], bytes]) -> None:
        """A newer message with the same ``key`` replaces one that waits to be sent."""
        self.type = type
        self.key = key
        self._make = make
        self._encoded: bytes | None = None

    def encoded(self) -> bytes:
        """The message as ``text/event-stream``; empty if it is unreadable."""
        if self._encoded is None:
            try:
                self._encoded = self._make()
            except InvalidMessage as error:  # written by another release
                log.warning("news_unreadable", type=self.type, error=str(error))
                self._encoded = b""
        return self._encoded


def snapshot(type: str, told: Told) -> News:
    """The present state of a fetch; the newest of a type is told."""

    def make() -> bytes:
        return _message(type, as_plain(FetchState.from_plain(dict(told))))

    return News(type, f"{type} {told.get('uid')}", make)


def lifecycle(id: str | None, entry: str, packed: bytes, type: str) -> News:
    """An event of the scope's stream; ``id`` is what a reader can resume from."""

    def make() -> bytes:
        return _message(type, _event(EventMessage.decode(packed)), id)

    return News(type, entry, make)


def window(message: WindowMessage) -> News:
    """A listener asks for a window."""
    plain = message.model_dump(
        mode="json", by_alias=True, include={"scope", "uid", "id", "event", "url"}
    )
    key = f"{WINDOW} {message.uid} {message.event}"
    return News(WINDOW, key, lambda: _message(WINDOW, plain))


def event_named(packed: bytes) -> tuple[str, str, int]:
    """Type, uid and time of a packed event; empty where it is none."""
    try:
        told = codec.decode(packed)
    except InvalidMessage:
        return "", "", 0
    about = told.get("registration")
    uid = about.get("uid") if isinstance(about, dict) else None
    at = told.get("timeStamp")
    return str(told.get("type")), str(uid), at if isinstance(at, int) else 0


def greeting(client: str, id: str | None) -> bytes:
    """The first message: who the reader is, and from where it can resume."""
    return _message("client", {"client": client}, id, RETRY_MS)


def farewell(reason: str) -> bytes:
    """The last message: come again, with the id of the last event."""
    return _message("bye", {"reason": reason}, None, RETRY_MS)


def mark(id: str | None) -> bytes:
    """A sign of life; ``id`` says that nothing before it is still to come."""
    return format_sse_event(comment="ping", id=id)


def _event(message: EventMessage) -> dict[str, Any]:
    return {
        "type": message.type,
        "event": message.event,
        "timeStamp": iso(message.time_stamp),
        "registration": as_plain(message.registration),
    }


def _message(
    type: str, data: object, id: str | None = None, retry: int | None = None
) -> bytes:
    told = json.dumps(data, separators=(",", ":"))
    return format_sse_event(data_str=told, event=type, id=id, retry=retry)
