"""The channels and the stream of the service, as an AsyncAPI 3.0 document."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from broker.keys import ABORTS, ORIGIN_NEWS, ScopeKeys
from schemas.catalogue import schemas_of
from schemas.events import EventMessage, EventType, WindowMessage
from schemas.fetches import FetchState, Result

Document = dict[str, Any]

MSGPACK = "application/vnd.msgpack"
_REDIS: Document = {"redis": {}}  # the binding has no members yet
_SCOPE = ScopeKeys("{scope}")
_UID = "8f14e45fceea167a5a36dedd4bea2543"


def document() -> Document:
    """Describe every channel that others may listen to, with examples that decode."""
    names = ["event", "registration", "window"]
    payloads, definitions = schemas_of(names, "#/components/schemas/{model}")
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Background Fetch",
            "version": _version(),
            "description": "Channels and streams in Redis. Messages are msgpack maps "
            "whose defaults are left out; readers ignore fields that they do not know.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": MSGPACK,
        "servers": {
            "redis": {
                "host": "localhost:6379",
                "protocol": "redis",
                "description": "Redis or Valkey from 7.0 on, as BGFETCH_REDIS_URL says",
            }
        },
        "channels": _channels(),
        "operations": _operations(),
        "components": {
            "messages": _messages(payloads),
            "schemas": definitions,
        },
    }


def _channels() -> Document:
    return {
        "events": _channel(
            _SCOPE.events,
            "Lifecycle events, to whoever listens at the moment: PUBLISH, best effort. "
            "The stream of the same name loses none.",
            "event",
        ),
        "eventStream": _channel(
            _SCOPE.events,
            "Lifecycle events until the retention ends: a STREAM with a consumer group "
            "for each subscriber. Its entries have the fields `delivery` "
            "(`<uid>/<event>`), `message` (the event), `id` (of the fetch), `version` "
            "(of the subscriber set), `number` (in the scope), `v` (of the message) "
            "and `state` (version of the registration). Groups are the service's: "
            "read with XRANGE or XREAD, or run `bgfetch subscribe`.",
            "event",
        ),
        "progress": _channel(
            _SCOPE.progress,
            "The registration of a fetch after each change, a few times a second: "
            "PUBLISH, coalesced, best effort; the last state is always told.",
            "registration",
        ),
        "clients": _channel(
            _SCOPE.clients,
            "Windows that listeners of a click asked for: PUBLISH, best effort.",
            "window",
        ),
        "aborts": _channel(
            ABORTS,
            "Fetches that ended or were paused, for workers: PUBLISH, best effort.",
            "ended",
        ),
        "originNews": _channel(
            ORIGIN_NEWS,
            "Origins whose limit has changed, for workers: PUBLISH, best effort.",
            "originChanged",
        ),
    }


def _channel(address: str, description: str, message: str) -> Document:
    channel: Document = {
        "address": address,
        "description": description,
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
        "bindings": _REDIS,
    }
    if "{scope}" in address:
        channel["parameters"] = {
            "scope": {"description": "The name that owns the fetches."}
        }
    return channel


def _operations() -> Document:
    sends = ("events", "eventStream", "progress", "clients", "aborts", "originNews")
    receives = ("aborts", "originNews")
    told = [("send", name) for name in sends] + [("receive", name) for name in receives]
    return {
        f"{action}{name[0].upper()}{name[1:]}": {
            "action": action,
            "channel": {"$ref": f"#/channels/{name}"},
            "bindings": _REDIS,
        }
        for action, name in told
    }


def _messages(payloads: dict[str, Document]) -> Document:
    state = FetchState(
        uid=_UID,
        id="ep-5",
        scope="podcasts",
        title="Episode 5",
        download_total=62914560,
        downloaded=1048576,
        records=2,
        open_records=1,
        base_url="https://podcasts.example/",
        created_at=1795300000000,
        version=7,
    )
    ended = state.model_copy(
        update={"result": Result.SUCCESS, "open_records": 0, "version": 9}
    )
    event = EventMessage(
        type=EventType.SUCCESS,
        event=EventType.SUCCESS,
        time_stamp=1795300042000,
        registration=ended,
    )
    window = WindowMessage(
        uid=_UID, id="ep-5", event="backgroundfetchclick.1", url="/latest-podcasts"
    )
    return {
        "event": _message("A lifecycle event", payloads["event"], event),
        "registration": _message(
            "The state of a fetch", payloads["registration"], state
        ),
        "window": _message("A window to open", payloads["window"], window),
        "ended": _text("The uid of a fetch", "^[0-9a-f]{32}$", _UID),
        "originChanged": _text(
            "A nonce of the sender, a space, and an origin",
            "^[0-9a-f]+ https?://.+$",
            "0f1e2d3c4b5a6978 https://cdn.example:443",
        ),
    }


def _message(
    title: str,
    payload: Document,
    example: EventMessage | FetchState | WindowMessage,
) -> Document:
    plain = example.model_dump(mode="json", exclude_defaults=True)
    return {
        "title": title,
        "contentType": MSGPACK,
        "payload": payload,
        "bindings": _REDIS,
        "examples": [{"payload": plain}],
    }


def _text(title: str, pattern: str, example: str) -> Document:
    return {
        "title": title,
        "contentType": "text/plain",
        "payload": {"type": "string", "pattern": pattern},
        "bindings": _REDIS,
        "examples": [{"payload": example}],
    }


def _version() -> str:
    try:
        return version("background-fetch")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0"
