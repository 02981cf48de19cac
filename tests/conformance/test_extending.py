"""Service Workers § ExtendableEvent: how long an event lives."""

from __future__ import annotations

import asyncio

import pytest

from broker import BackgroundFetchManager
from broker.settings import Settings
from schemas.errors import InvalidState
from tests.conformance.stage import SECONDS
from tests.integration.outcomes import Outcomes, running
from workers import BackgroundFetchEvent, ServiceWorker
from workers.events import Lifetime
from workers.runtime import Runtime

URL = "https://cdn.example/a"


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
