"""``broker.blocking``: the same objects for code without an event loop."""

from __future__ import annotations

import threading

import pytest

from broker import blocking
from broker.settings import Settings
from schemas.errors import Aborted, DuplicateFetch, InvalidURL
from schemas.requests import Request
from tests.integration.clock import SCOPE

URL = "https://cdn.example/1"


def test_every_call_waits_and_every_value_is_the_asynchronous_ones(
    settings: Settings,
) -> None:
    with blocking.connect(scope=SCOPE, settings=settings) as background_fetch:
        registration = background_fetch.fetch("x", [URL, URL], title="t")

        same = background_fetch.get("x")
        records = registration.match_all()
        clicked = registration.click().event
        aborted = registration.abort()
        seen = [progress.result for progress in registration.progress()]

        assert same.uid == registration.uid
        assert background_fetch.scope == SCOPE
        assert [record.request.url for record in records] == [URL, URL]
        assert (clicked, aborted) == ("backgroundfetchclick.1", True)
        assert seen == ["failure"]
        assert (registration.title, registration.failure_reason) == ("t", "aborted")
        assert background_fetch.get_ids() == []
        assert background_fetch.subscribers.names() == []
        assert background_fetch.subscribers.pause("a") is False
        with pytest.raises(Aborted):
            _ = records[0].response_ready


def test_bodies_are_given_and_read_back_without_an_event_loop(
    settings: Settings,
) -> None:
    """BF-OBJ-01, BF-FETCH-14."""
    content = bytes(range(256)) * 1024
    with blocking.connect(scope=SCOPE, settings=settings) as background_fetch:
        request = Request(URL, method="POST", body=(content for _ in range(2)))
        [record] = background_fetch.fetch("x", request).match_all()

        read = b"".join(record.request.body)
        [copy] = background_fetch.fetch("y", record.request).match_all()
        again = b"".join(copy.request.body)

    assert read == again == content * 2


def test_errors_are_the_same_and_slots_can_be_set(settings: Settings) -> None:
    heard: list[str] = []
    changed = threading.Event()

    def listener(event: object) -> None:
        heard.append("progress")
        changed.set()

    with blocking.connect(scope=SCOPE, settings=settings) as background_fetch:
        registration = background_fetch.fetch("x", URL)
        registration.onprogress = listener
        with pytest.raises(DuplicateFetch):
            background_fetch.fetch("x", URL)
        with pytest.raises(InvalidURL):
            background_fetch.fetch("y", "file:///etc/passwd")
        registration.abort()

        assert changed.wait(10)
    assert heard == ["progress"]
