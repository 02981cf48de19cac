"""§ Match: which records an app finds, and until when."""

from __future__ import annotations

import pytest

from broker import BackgroundFetchManager, Request
from schemas.errors import InvalidState
from tests.conformance.stage import Stage
from tests.integration.outcomes import running
from workers import ServiceWorker

BODY = bytes(range(256)) * 1024
URL = "https://cdn.example/a"


async def test_released_records_are_refused_everywhere_before_any_argument(
    stage: Stage, sw: ServiceWorker, elsewhere: BackgroundFetchManager
) -> None:
    """BF-MATCH-01, BF-WAIT-10, BF-PERF-08."""
    stage.origin.add("/a", BODY)
    registration = await stage.fetch("/a")
    mirror = await elsewhere.get("x")
    assert mirror is not None
    async with running(sw, stage.settings) as outcomes:
        await stage.perform(registration)
        await outcomes.until("acked")

    for each in (registration, mirror):
        await each.refresh()
        for call in (each.match_all(), each.match(URL), each.match("http://[")):
            with pytest.raises(InvalidState):
                await call
        assert not each.records_available


async def test_vary_counts_once_there_is_a_head(stage: Stage) -> None:
    """BF-MATCH-08."""
    stage.origin.add("/a", b"", headers={"Vary": "Accept"})
    stage.origin.add("/b", b"", headers={"Vary": "*"})
    named, any_ = stage.origin.url("/a"), stage.origin.url("/b")
    wanted = [Request(named, headers={"Accept": "text/html"}), Request(any_)]
    registration = await stage.manager.fetch("x", wanted)
    other = Request(named, headers={"Accept": "text/plain"})

    before = await registration.match(other)
    await stage.perform(registration)

    assert before is not None
    assert await registration.match(other) is None
    assert await registration.match(wanted[0]) is not None
    assert await registration.match(other, ignore_vary=True) is not None
    assert await registration.match(any_) is None
    assert await registration.match(any_, ignore_vary=True) is not None


async def test_matching_twice_gives_two_records_over_the_same_bytes(
    stage: Stage,
) -> None:
    """BF-MATCH-10."""
    stage.origin.add("/a", BODY)
    registration = await stage.perform(await stage.fetch("/a"))

    first = await stage.record(registration, "/a")
    second = await stage.record(registration, "/a")

    assert first is not second
    assert await (await first.response_ready).read() == BODY
    assert await (await second.response_ready).read() == BODY


async def test_head_is_not_get(manager: BackgroundFetchManager) -> None:
    """BF-MATCH-07, BF-MATCH-11: whatever the method of the query."""
    registration = await manager.fetch("x", Request(URL, method="HEAD"))

    assert await registration.match(URL) is None
    assert await registration.match(Request(URL, method="HEAD")) is None
    assert await registration.match(URL, ignore_method=True) is not None


async def test_fragments_do_not_count_and_queries_only_if_wanted(
    manager: BackgroundFetchManager,
) -> None:
    """BF-MATCH-06, BF-MATCH-09: by URL or by Request."""
    registration = await manager.fetch("x", URL + "?id=3#f")

    assert await registration.match(Request(URL + "?id=3")) is not None
    assert await registration.match(URL + "?id=4") is None
    assert await registration.match(URL + "?id=4", ignore_search=True) is not None
    with pytest.raises(TypeError):
        await registration.match("http://[")


async def test_records_are_what_was_asked_for_whatever_became_of_them(
    stage: Stage,
) -> None:
    """BF-OBJ-11, BF-MATCH-03, BF-MATCH-05: in number, order and request."""
    stage.origin.add("/a", b"")
    wanted = [
        Request(stage.origin.url("/a")),
        Request(stage.origin.url("/missing"), method="POST", body=b"1"),
        Request(stage.origin.url("/a")),
    ]
    registration = await stage.manager.fetch("x", wanted)

    before = [record.request for record in await registration.match_all()]
    await stage.perform(registration)
    after = [record.request for record in await registration.match_all()]

    assert before == after
    assert [(each.method, each.url, each.body) for each in after] == [
        (each.method, each.url, each.body) for each in wanted
    ]
