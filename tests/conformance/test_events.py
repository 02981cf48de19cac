"""§ Events: to whom they come, and what can be reached in them."""

from __future__ import annotations

import asyncio

from broker import BackgroundFetchManager
from broker.settings import Settings
from schemas.errors import Aborted
from tests.conformance.stage import Stage
from tests.integration.outcomes import running
from workers import BackgroundFetchEvent, ServiceWorker

URL = "https://cdn.example/a"


async def test_where_nobody_listens_the_records_go_all_the_same(
    manager: BackgroundFetchManager, settings: Settings, sw: ServiceWorker
) -> None:
    """BF-EVT-03."""
    async with running(sw, settings) as outcomes:
        registration = await manager.fetch("x", URL)
        await registration.abort()
        await outcomes.until("acked")
    await registration.refresh()

    assert not registration.records_available


async def test_an_abort_by_whomever_is_one_event_with_its_records(
    stage: Stage, sw: ServiceWorker, elsewhere: BackgroundFetchManager
) -> None:
    """BF-EVT-09, BF-ABORT-04, BF-PERF-07: by the program, or by a person elsewhere."""
    heard: list[tuple[str, int]] = []

    @sw.on("backgroundfetchabort")
    async def aborted(event: BackgroundFetchEvent) -> None:
        records = await event.registration.match_all()
        heard.append((event.registration.id, len(records)))

    async with running(sw, stage.settings) as outcomes:
        await (await stage.fetch("/a", "/b", id="own")).abort()
        await outcomes.until("acked")
        await stage.fetch("/a", id="others")
        found = await elsewhere.get("others")
        assert found is not None
        await found.abort()
        await outcomes.until("acked")

    assert heard == [("own", 2), ("others", 1)]


async def test_in_fail_and_in_abort_all_records_can_be_reached(
    stage: Stage, sw: ServiceWorker
) -> None:
    """BF-EVT-07, BF-EVT-08, BF-ABORT-06, BF-ABORT-07, BF-REC-24, BF-MATCH-02."""
    heard: dict[str, list[object]] = {}

    async def hear(event: BackgroundFetchEvent) -> None:
        found: list[object] = []
        for record in await event.registration.match_all():
            try:
                response = await record.response_ready
                found.append((response.status, await response.read()))
            except Aborted:
                found.append("AbortError")
        heard[event.type] = found

    for kind in ("success", "fail", "abort"):
        sw.add_event_listener(f"backgroundfetch{kind}", hear)
    stage.origin.add("/good", b"good")
    stage.origin.add("/slow", bytes(100_000), hold=asyncio.Event(), hold_after=10)
    async with running(sw, stage.settings) as outcomes:
        await stage.perform(await stage.fetch("/good", "/missing"))
        await outcomes.until("acked")
        ended = await stage.fetch("/good", "/slow", id="ended")
        async with stage.performing(ended):
            assert await stage.read(ended, "/good") == b"good"
            assert await ended.abort()
        await outcomes.until("acked")

    assert heard == {
        "backgroundfetchfail": [(200, b"good"), (404, b"")],
        "backgroundfetchabort": [(200, b"good"), "AbortError"],
    }


async def test_where_no_service_worker_is_active_events_wait_for_one(
    manager: BackgroundFetchManager, settings: Settings, sw: ServiceWorker
) -> None:
    """BF-FETCH-12 as its ruling says, BF-EVT-02, BF-GET-06."""
    registration = await manager.fetch("x", URL)
    await registration.abort()
    heard: list[str] = []
    sw.add_event_listener("backgroundfetchabort", lambda e: heard.append(e.type))

    async with running(sw, settings) as outcomes:
        await outcomes.until("acked")

    assert heard == ["backgroundfetchabort"]
