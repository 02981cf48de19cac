"""§ Events, and Service Workers § ExtendableEvent: dispatch, waitUntil, updateUI."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable

import pytest

from broker import BackgroundFetchManager
from broker.settings import Settings
from schemas.errors import InvalidState
from tests.conformance.stage import SECONDS, Stage
from tests.integration.outcomes import Outcomes, running
from workers import BackgroundFetchEvent, BackgroundFetchUpdateUIEvent, ServiceWorker
from workers.events import Lifetime
from workers.runtime import Runtime

URL = "https://cdn.example/a"


async def refused(call: Awaitable[object]) -> bool:
    """Whether it is too late for this."""
    try:
        await call
    except InvalidState:
        return True
    return False


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


async def test_a_promise_counts_until_the_loop_has_turned_even_if_it_had_settled() -> (
    None
):
    """BF-WAIT-03, BF-WAIT-05."""
    lifetime = Lifetime()
    settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    settled.set_result(None)

    during = lifetime.active
    lifetime.extend(settled)
    lifetime.dispatched()
    just_after = lifetime.active
    async with asyncio.timeout(SECONDS):
        await lifetime.over()

    assert (during, just_after, lifetime.active) == (True, True, False)


async def test_an_event_that_timed_out_is_inactive_whatever_is_pending() -> None:
    """BF-WAIT-03, BF-WAIT-08: what was pending is cancelled."""
    lifetime = Lifetime()
    pending = asyncio.create_task(asyncio.Event().wait())
    lifetime.extend(pending)

    lifetime.end()

    assert not lifetime.active
    with pytest.raises(asyncio.CancelledError):
        await pending


async def test_an_event_can_be_extended_while_it_lasts_and_gives_nothing_for_it(
    manager: BackgroundFetchManager, settings: Settings, sw: ServiceWorker
) -> None:
    """BF-WAIT-02, BF-WAIT-07, BF-WAIT-12, BF-CLICK-06: a click as any other."""
    returned: list[object] = []
    first, settled, second = asyncio.Event(), asyncio.Event(), asyncio.Event()
    events: list[BackgroundFetchEvent] = []

    @sw.on("backgroundfetchclick")
    def clicked(event: BackgroundFetchEvent) -> None:
        events.append(event)
        returned.append(event.wait_until(one()))  # type: ignore[func-returns-value]
        event.wait_until(second.wait())

    async def one() -> None:
        await first.wait()
        settled.set()

    async with running(sw, settings) as outcomes:
        await (await manager.fetch("x", URL)).click()
        await outcomes.until("began")
        first.set()
        async with asyncio.timeout(SECONDS):
            await settled.wait()
        waiting = outcomes.seen.empty()
        second.set()
        await outcomes.until("acked")

    assert returned == [None]
    assert waiting
    with pytest.raises(InvalidState):
        events[0].wait_until(asyncio.sleep(0))


async def test_a_process_that_is_told_to_end_lets_its_events_come_to_their_end(
    manager: BackgroundFetchManager, settings: Settings, sw: ServiceWorker
) -> None:
    """BF-WAIT-09."""
    began, proceed = asyncio.Event(), asyncio.Event()
    finished: list[int] = []

    @sw.on("backgroundfetchabort")
    async def aborted(event: BackgroundFetchEvent) -> None:
        began.set()
        await proceed.wait()
        finished.append(event.attempt)

    outcomes = Outcomes()
    runtime = Runtime(sw, settings, observer=outcomes.observe)
    task = asyncio.create_task(runtime.run())
    await (await manager.fetch("x", URL)).abort()
    async with asyncio.timeout(SECONDS):
        await began.wait()
        runtime.stop()
        proceed.set()
        await task

    assert finished == [1]
    assert (await outcomes.until("acked"))[2] == 1


async def test_a_plain_listener_without_promises_ends_its_event_when_it_returns(
    manager: BackgroundFetchManager, settings: Settings, sw: ServiceWorker
) -> None:
    """BF-WAIT-11, BF-WAIT-02."""
    events: list[BackgroundFetchEvent] = []
    sw.add_event_listener("backgroundfetchabort", events.append)

    async with running(sw, settings) as outcomes:
        await (await manager.fetch("x", URL)).abort()
        await outcomes.until("acked")

    with pytest.raises(InvalidState, match="no longer active"):
        events[0].wait_until(asyncio.sleep(0))


async def test_what_the_display_shows_changes_by_what_is_present_and_nothing_else(
    stage: Stage, sw: ServiceWorker
) -> None:
    """BF-UPD-04, -05, -07, -08: an empty title is present."""
    told: list[object] = []

    @sw.on("backgroundfetchfail")
    async def failed(event: BackgroundFetchUpdateUIEvent) -> None:
        await asyncio.sleep(0)
        given = event.update_ui(title="")
        assert inspect.isawaitable(given)
        told.append(await given)  # type: ignore[func-returns-value]
        told.append(await refused(event.update_ui(title="again")))

    icons = [{"src": "/i.png"}]
    registration = await stage.fetch("/missing", title="before", icons=icons)
    async with running(sw, stage.settings) as outcomes:
        await stage.perform(registration)
        await outcomes.until("acked")
    await registration.refresh()

    assert told == [None, True]
    assert (registration.title, registration.icons[0].src) == ("", "/i.png")
    assert registration.failure_reason == "bad-status"


async def test_a_change_of_nothing_is_done_at_once_and_uses_up_the_only_one(
    stage: Stage, sw: ServiceWorker
) -> None:
    """BF-UPD-06, BF-UPD-03."""
    told: list[object] = []

    @sw.on("backgroundfetchsuccess")
    async def succeeded(event: BackgroundFetchUpdateUIEvent) -> None:
        await event.update_ui()
        told.append(await refused(event.update_ui(title="late")))

    stage.origin.add("/a", b"")
    registration = await stage.fetch("/a", title="before")
    async with running(sw, stage.settings) as outcomes:
        await stage.perform(registration)
        await outcomes.until("acked")
    await registration.refresh()

    assert told == [True]
    assert registration.title == "before"


async def test_three_clicks_are_three_events_before_and_after_the_end(
    stage: Stage, sw: ServiceWorker
) -> None:
    """BF-CLICK-01, BF-CLICK-02, BF-DISP-09: the result stays as it was."""
    heard: list[tuple[str, type[object]]] = []

    @sw.on("backgroundfetchclick")
    async def clicked(event: BackgroundFetchEvent) -> None:
        heard.append((event.registration.result, type(event)))
        if event.registration.result:
            assert await refused(event.registration.match_all())

    stage.origin.add("/a", b"body")
    registration = await stage.fetch("/a")
    async with running(sw, stage.settings) as outcomes:
        await registration.click()
        await outcomes.until("acked")
        await stage.perform(registration)
        await outcomes.until("acked")  # of success, which releases the records
        for _ in range(2):
            await registration.click()
            await outcomes.until("acked")
    await registration.refresh()

    click = BackgroundFetchEvent
    assert heard == [("", click), ("success", click), ("success", click)]
    assert registration.result == "success"
