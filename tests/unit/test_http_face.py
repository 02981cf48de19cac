"""What the Python face can do, the HTTP API can."""

from __future__ import annotations

import pytest

from broker.gateway import create_app
from broker.manager import BackgroundFetchManager
from broker.record import BackgroundFetchRecord
from broker.registration import BackgroundFetchRegistration
from broker.response import Response
from broker.settings import Settings

DOCUMENT = create_app(Settings.model_construct()).openapi()

ATTRIBUTE = "a member of what is shown"
INSIDE = "of a process, not of a fetch"
BY_EVENTS = "a listener's alone: it goes with a delivery"

# Each public member: the operations that do the same, or why there is none.
FACE: dict[type, dict[str, tuple[str, ...] | str]] = {
    BackgroundFetchManager: {
        "fetch": ("register_fetch",),
        "get": ("list_fetches",),
        "get_ids": ("get_ids",),
        "find": ("list_fetches",),
        "lookup": ("get_fetch",),
        "history": ("list_fetches", "list_all_fetches"),
        "history_page": ("list_fetches", "list_all_fetches"),
        "permission": ("get_permission",),
        "unregister": ("remove_scope",),
        "subscribers": ("join_subscriber",),
        "scope": ATTRIBUTE,
        "aclose": INSIDE,
        "registration": INSIDE,
        "watching": INSIDE,
    },
    BackgroundFetchRegistration: {
        "abort": ("abort_fetch", "act_on_fetches"),
        "pause": ("pause_fetch", "act_on_fetches"),
        "resume": ("resume_fetch", "act_on_fetches"),
        "click": ("click_fetch", "click_by_webdriver"),
        "retry": ("retry_fetch", "act_on_fetches"),
        "forget": ("forget_fetch", "act_on_fetches"),
        "release": ("release_fetch",),
        "settled": ("get_settled",),
        "dispatched": ("get_event",),
        "match": ("match",),
        "match_all": ("match_all",),
        "records": ("list_records", "get_record"),
        "progress": ("fetch_events",),
        "add_event_listener": ("fetch_events",),
        "onprogress": ("fetch_events",),
        "remove_event_listener": INSIDE,
        "refresh": ("get_fetch",),
        "changed": INSIDE,
        "until": INSIDE,
        "update": INSIDE,
        "present": BY_EVENTS,
        "open_window": BY_EVENTS,
        **dict.fromkeys(
            (
                "download_total",
                "downloaded",
                "failure_reason",
                "icons",
                "id",
                "paused",
                "records_available",
                "result",
                "scope",
                "state",
                "title",
                "uid",
                "upload_total",
                "uploaded",
            ),
            ATTRIBUTE,
        ),
    },
    BackgroundFetchRecord: {
        "request": ("get_record", "get_request_body"),
        "response_ready": ("get_record", "get_response_body"),
        "refresh": ("get_record",),
        **dict.fromkeys(
            ("attempts", "failure_reason", "index", "look", "result", "upload_total"),
            ATTRIBUTE,
        ),
    },
    Response: {
        **dict.fromkeys(
            ("body", "json", "part", "raw", "read", "save", "text"),
            ("get_response_body",),
        ),
        **dict.fromkeys(
            ("ok", "redirected", "status", "status_text", "type", "url"), ATTRIBUTE
        ),
    },
}


@pytest.mark.parametrize("kind", FACE, ids=lambda kind: kind.__name__)
def test_every_member_has_an_operation_or_a_reason(kind: type) -> None:
    members = {name for name in dir(kind) if not name.startswith("_")}

    assert members - set(FACE[kind]) == set()
    assert set(FACE[kind]) - members == set()


def test_the_operations_are_there() -> None:
    known = {
        operation["operationId"]
        for methods in DOCUMENT["paths"].values()
        for operation in methods.values()
    }

    for members in FACE.values():
        for name, operations in members.items():
            if isinstance(operations, tuple):
                assert set(operations) <= known, name
