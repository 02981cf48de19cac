"""``ServiceWorker`` and its runtime: listeners, waitUntil, windows, redelivery."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta

import pytest

from broker.holding import Nack
from broker.keys import FetchKeys, ScopeKeys
from broker.manager import BackgroundFetchManager
from broker.settings import Settings
from broker.stream import Subscription
from broker.subscribers import Subscribers
from schemas.errors import InvalidAccess, InvalidState, InvalidURL
from schemas.events import WindowMessage
from tests.integration.clock import SCOPE, Clock
from tests.integration.delivering import hand_over
from tests.integration.outcomes import Outcomes, running
from workers.events import (
    BackgroundFetchEvent,
    BackgroundFetchUpdateUIEvent,
    ExtendableEvent,
)
from workers.runtime import Runtime
from workers.service_worker import ServiceWorker

URL = "https://cdn.example/1"


@pytest.fixture
def sw() -> ServiceWorker:
    return ServiceWorker(SCOPE)


async def test_an_event_is_acknowledged_when_its_promises_have_settled(
    manager: BackgroundFetchManager, settings: Settings, sw: ServiceWorker
) -> None:
    """BF-WAIT-10, BF-WAIT-12, BF-EVT-06, BF-INST-01."""
    began, proceed = asyncio.Event(), asyncio.Event()

    @sw.on("backgroundfetchabort")
    def aborted(event: BackgroundFetchEvent) -> None:
        event.wait_until(proceed.wait())
        loop.call_soon_threadsafe(began.set)

    loop = asyncio.get_running_loop()
    registration = await manager.fetch("x", URL)
    async with running(sw, settings) as outcomes:
        await registration.abort()
        async with asyncio.timeout(15):
            await began.wait()
        during = outcomes.seen.qsize()
        await registration.refresh()
        available = registration.records_available
        proceed.set()
        acked = await outcomes.until("acked")
        await registration.refresh()

    assert (during, available) == (1, True)
    assert acked == ("acked", "backgroundfetchabort", 1)
    assert not registration.records_available


async def test_a_rejected_promise_brings_the_event_again(
    manager: BackgroundFetchManager, settings: Settings, sw: ServiceWorker
) -> None:
    """BF-WAIT-06, faults 86, design §7: the same delivery_id, another attempt."""
    seen: list[tuple[str, int]] = []

    @sw.on("backgroundfetchabort")
    async def aborted(event: BackgroundFetchEvent) -> None:
        seen.append((event.delivery_id, event.attempt))
        if event.attempt == 1:
            raise ValueError("no luck")

    async with running(sw, settings) as outcomes:
        await (await manager.fetch("x", URL)).abort()
        failed = await outcomes.until("failed")
        acked = await outcomes.until("acked")

    assert (failed[2], acked[2]) == (1, 2)
    assert seen[0][0] == seen[1][0]
    assert [attempt for _, attempt in seen] == [1, 2]


async def test_one_listener_that_raises_does_not_stop_the_next(
    manager: BackgroundFetchManager, settings: Settings, sw: ServiceWorker
) -> None:
    """BF-EVT-11, BF-IDL-16: the slot first, then listeners in order."""
    called: list[str] = []

    def slot(event: BackgroundFetchEvent) -> None:
        called.append("slot")
        raise ValueError("first")

    sw.onbackgroundfetchabort = slot
    sw.add_event_listener("backgroundfetchabort", lambda event: called.append("second"))
    async with running(sw, settings) as outcomes:
        await (await manager.fetch("x", URL)).abort()
        await outcomes.until("failed")

    assert called[:2] == ["slot", "second"]


async def test_the_listener_of_a_click_opens_the_window_that_the_result_asks_for(
    manager: BackgroundFetchManager, settings: Settings, sw: ServiceWorker
) -> None:
    """The example that this project grew from; BF-CLICK-01."""

    @sw.on("backgroundfetchclick")
    async def clicked(event: BackgroundFetchEvent) -> None:
        if event.registration.result == "success":
            await sw.clients.open_window("/latest-podcasts")
        else:
            await sw.clients.open_window("/download-progress")

    registration = await manager.fetch("x", URL)
    async with (
        running(sw, settings) as outcomes,
        manager.connection.redis.pubsub() as clients,
    ):
        await clients.subscribe(ScopeKeys(SCOPE).clients)
        await clients.get_message(timeout=5)
        await registration.click()
        await outcomes.until("acked")
        message = await clients.get_message(timeout=5)

    assert message is not None
    window = WindowMessage.decode(message["data"])
    assert window.url == "http://localhost:8780/download-progress"
    assert (window.uid, window.event) == (registration.uid, "backgroundfetchclick.1")


async def test_a_window_opens_only_for_a_click_and_only_once(
    manager: BackgroundFetchManager, settings: Settings, sw: ServiceWorker
) -> None:
    """BF-CLICK-03, BF-CLICK-04, BF-CLICK-05."""
    raised: list[BaseException] = []
    opened: list[object] = []

    async def attempt(url: str) -> None:
        try:
            opened.append(await sw.clients.open_window(url))
        except (InvalidAccess, InvalidURL) as error:
            raised.append(error)

    @sw.on("backgroundfetchabort")
    async def aborted(event: BackgroundFetchEvent) -> None:
        await attempt("/no-click")

    @sw.on("backgroundfetchclick")
    async def clicked(event: BackgroundFetchEvent) -> None:
        await attempt("about:blank")
        await attempt("http://[")
        await attempt("https://other.example/")
        await attempt("/second")

    async with running(sw, settings) as outcomes:
        registration = await manager.fetch("x", URL)
        await registration.click()
        await outcomes.until("acked")
        await registration.abort()
        await outcomes.until("acked")

    assert [type(error) for error in raised] == [
        InvalidURL,
        InvalidURL,
        InvalidAccess,
        InvalidAccess,
    ]
    assert opened == [None]


async def test_an_async_listener_may_extend_and_update_until_it_returns(
    manager: BackgroundFetchManager, settings: Settings, sw: ServiceWorker
) -> None:
    """BF-GET-02, BF-WAIT-04, BF-WAIT-11: no longer the active one meanwhile."""
    found: dict[str, object] = {}

    @sw.on("backgroundfetchabort")
    async def aborted(event: BackgroundFetchEvent) -> None:
        await asyncio.sleep(0)
        event.wait_until(asyncio.sleep(0))
        found.update(
            trusted=event.is_trusted,
            updates=hasattr(event, "update_ui"),
            active=await manager.get(event.registration.id),
            result=event.registration.result,
        )
        found["event"] = event

    async with running(sw, settings) as outcomes:
        await (await manager.fetch("x", URL)).abort()
        await outcomes.until("acked")

    event = found.pop("event")
    assert isinstance(event, ExtendableEvent)
    assert found == {
        "trusted": True,
        "updates": False,
        "active": None,
        "result": "failure",
    }
    with pytest.raises(InvalidState, match="no longer active"):
        event.wait_until(asyncio.sleep(0))


async def test_an_event_that_a_program_made_extends_nothing(
    manager: BackgroundFetchManager,
) -> None:
    """BF-IDL-12, BF-EVT-10, BF-WAIT-01, BF-UPD-02."""
    registration = await manager.fetch("x", URL)
    event = BackgroundFetchUpdateUIEvent(
        "backgroundfetchsuccess", registration=registration
    )

    with pytest.raises(TypeError):
        BackgroundFetchEvent("backgroundfetchclick")  # type: ignore[call-arg]
    with pytest.raises(InvalidState):
        event.wait_until(asyncio.sleep(0))
    with pytest.raises(InvalidState):
        await event.update_ui(title="new")
    assert (event.is_trusted, event.registration) == (False, registration)


async def test_a_listener_that_blocks_the_event_loop_keeps_its_delivery(
    manager: BackgroundFetchManager, settings: Settings, sw: ServiceWorker
) -> None:
    """R24: leases are extended in a thread of their own."""
    quick = settings.model_copy(update={"lease": settings.lease / 6})
    blocked, handled = threading.Event(), []

    @sw.on("backgroundfetchabort")
    async def aborted(event: BackgroundFetchEvent) -> None:
        handled.append(event.attempt)
        blocked.set()
        deadline = time.monotonic() + 1.4 * quick.lease.total_seconds()
        while time.monotonic() < deadline:  # the loop is blocked on purpose
            pass

    other = ServiceWorker(SCOPE)
    other.add_event_listener("backgroundfetchabort", aborted)

    def second_process() -> None:
        blocked.wait()
        asyncio.run(_serve_until(other, quick, stop))

    stop = threading.Event()
    async with running(sw, quick) as outcomes:
        thread = threading.Thread(target=second_process)
        thread.start()
        await (await manager.fetch("x", URL)).abort()
        acked = await outcomes.until("acked")
        stop.set()
        await asyncio.to_thread(thread.join)

    assert acked == ("acked", "backgroundfetchabort", 1)
    assert handled == [1]


@pytest.mark.parametrize("is_async", [True, False])
async def test_at_its_cap_an_event_ends_and_its_delivery_fails_once(
    manager: BackgroundFetchManager,
    settings: Settings,
    sw: ServiceWorker,
    is_async: bool,
) -> None:
    """BF-WAIT-08, R24, faults 86: inactive, cancelled, one failure, and again."""
    capped = settings.model_copy(update={"max_lifetime": timedelta(milliseconds=200)})
    events: list[BackgroundFetchEvent] = []
    cancelled, released = asyncio.Event(), threading.Event()

    async def wait(event: BackgroundFetchEvent) -> None:
        events.append(event)
        try:
            if event.attempt == 1:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def wait_in_thread(event: BackgroundFetchEvent) -> None:
        events.append(event)
        if event.attempt == 1:
            released.wait()

    sw.add_event_listener("backgroundfetchabort", wait if is_async else wait_in_thread)
    async with running(sw, capped) as outcomes:
        await (await manager.fetch("x", URL)).abort()
        failed = await outcomes.until("failed")
        with pytest.raises(InvalidState, match="no longer active"):
            events[0].wait_until(asyncio.sleep(0))
        acked = await outcomes.until("acked")
        released.set()

    assert (failed[2], acked[2]) == (1, 2)
    assert cancelled.is_set() == is_async
    assert len(events) == 2


async def test_past_its_cap_a_blocked_event_loop_loses_its_delivery(
    manager: BackgroundFetchManager, settings: Settings, sw: ServiceWorker
) -> None:
    """R24: its lease is not extended any more, and another process has it."""
    quick = settings.model_copy(
        update={
            "lease": timedelta(seconds=1),
            "max_lifetime": timedelta(milliseconds=100),
        }
    )
    blocked, handled = threading.Event(), threading.Event()

    @sw.on("backgroundfetchabort")
    async def block(event: BackgroundFetchEvent) -> None:
        blocked.set()
        handled.wait(timeout=10)  # the loop is blocked on purpose

    other = ServiceWorker(SCOPE)
    attempts: list[int] = []

    @other.on("backgroundfetchabort")
    async def handle(event: BackgroundFetchEvent) -> None:
        attempts.append(event.attempt)
        handled.set()

    def second_process() -> None:
        blocked.wait()
        asyncio.run(_serve_until(other, quick, stop))

    stop = threading.Event()
    async with running(sw, quick) as outcomes:
        thread = threading.Thread(target=second_process)
        thread.start()
        await (await manager.fetch("x", URL)).abort()
        await outcomes.until("began")
        await asyncio.to_thread(handled.wait)
        stop.set()
        await asyncio.to_thread(thread.join)

    assert attempts == [2]


async def _serve_until(
    service_worker: ServiceWorker, settings: Settings, stop: threading.Event
) -> None:
    runtime = Runtime(service_worker, settings)
    task = asyncio.create_task(runtime.run())
    await asyncio.to_thread(stop.wait)
    runtime.stop()
    await task


async def test_stopping_hands_deliveries_back_after_the_grace(
    manager: BackgroundFetchManager, settings: Settings, sw: ServiceWorker
) -> None:
    """R20, faults 90, BF-WAIT-13: what is handed back does not count as a failure."""
    hurried = settings.model_copy(update={"grace": settings.grace * 0})
    attempts: list[int] = []
    began = asyncio.Event()

    @sw.on("backgroundfetchabort")
    async def aborted(event: BackgroundFetchEvent) -> None:
        attempts.append(event.attempt)
        began.set()
        if event.attempt == 1:
            await asyncio.Event().wait()

    await (await manager.fetch("x", URL)).abort()
    async with running(sw, hurried), asyncio.timeout(15):
        await began.wait()
    async with running(sw, settings) as outcomes:
        acked = await outcomes.until("acked")

    assert acked[2] == 2
    assert attempts == [1, 2]


async def test_a_delivery_that_another_process_took_over_ends_here_at_once(
    manager: BackgroundFetchManager, settings: Settings, sw: ServiceWorker, clock: Clock
) -> None:
    """R10, R20: cancelled, and what it says then is no second failure."""
    quick = settings.model_copy(update={"lease": timedelta(seconds=3)})
    began, cancelled = asyncio.Event(), asyncio.Event()

    @sw.on("backgroundfetchabort")
    async def aborted(event: BackgroundFetchEvent) -> None:
        began.set()
        if event.attempt > 1:
            return
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise ValueError("too late") from None

    rival = Subscription(manager.connection, quick, SCOPE, sw.name)
    async with running(sw, quick) as outcomes:
        registration = await manager.fetch("x", URL)
        await registration.abort()
        async with asyncio.timeout(15):
            await began.wait()
        verdict = Nack.STALE
        while verdict is Nack.STALE:  # its lease is extended again and again
            await clock.age_deliveries(sw.name, quick.lease)
            for member in await rival.expired():
                verdict = await rival.expire(member)
        acked = await outcomes.until("acked")
    await rival.aclose()

    assert cancelled.is_set()
    assert acked[2] == 2
    about = await manager.connection.ask(
        "HGET",
        FetchKeys(SCOPE, registration.uid).events,
        f"backgroundfetchabort|{sw.name}",
    )
    assert about.startswith(b"acked 1 2 ")


async def test_an_unreadable_event_is_put_aside_and_stops_nobody(
    manager: BackgroundFetchManager, settings: Settings, sw: ServiceWorker
) -> None:
    """Faults 79: one bad message never stops a group."""
    sw.add_event_listener("backgroundfetchabort", lambda event: None)
    stream = ScopeKeys(SCOPE).events
    async with running(sw, settings) as outcomes:
        await manager.connection.redis.xadd(
            stream, {"delivery": "x/y", "message": b"\xc1nonsense"}
        )
        await (await manager.fetch("x", URL)).abort()
        await outcomes.until("acked")

    dead = ScopeKeys(SCOPE).subscriber("default").dead
    assert await manager.connection.ask("HLEN", dead) == 1


async def test_a_group_that_is_lost_under_a_process_is_made_again(
    manager: BackgroundFetchManager, settings: Settings, sw: ServiceWorker
) -> None:
    """R9: as after a Redis that came back without its newest writes."""
    sw.add_event_listener("backgroundfetchabort", lambda event: None)
    async with running(sw, settings) as outcomes:
        await (await manager.fetch("x", URL)).abort()
        await outcomes.until("acked")

        await manager.connection.ask(
            "XGROUP", "DESTROY", ScopeKeys(SCOPE).events, "default"
        )
        await (await manager.fetch("y", URL)).abort()

        assert (await outcomes.until("acked"))[2] == 1


async def test_a_process_whose_subscriber_was_removed_ends(
    manager: BackgroundFetchManager, settings: Settings, sw: ServiceWorker, clock: Clock
) -> None:
    """R21: it was stopped for longer than its lease, say."""
    sw.add_event_listener("backgroundfetchabort", lambda event: None)
    outcomes = Outcomes()
    runtime = Runtime(sw, settings, observer=outcomes.observe)
    task = asyncio.create_task(runtime.run())
    await (await manager.fetch("x", URL)).abort()
    await outcomes.until("acked")
    await clock.age_deliveries(sw.name, settings.lease)

    removed = await Subscribers(manager.connection, settings, SCOPE).remove(sw.name)

    assert removed
    async with asyncio.timeout(15):
        await task


async def test_what_was_collected_with_a_lost_answer_is_found_again(
    manager: BackgroundFetchManager, settings: Settings, sw: ServiceWorker
) -> None:
    """R20: given to this process, which does not know of it."""
    quick = settings.model_copy(update={"lease": timedelta(seconds=1)})
    sw.add_event_listener("backgroundfetchabort", lambda event: None)
    ask, stream = manager.connection.ask, ScopeKeys(SCOPE).events
    await (await manager.fetch("x", URL)).abort()
    hidden = Subscription(manager.connection, quick, SCOPE, sw.name)
    await hidden.join()
    [(entry, _)] = await hand_over(hidden, 1)
    await ask("XCLAIM", stream, sw.name, "-", 0, entry)  # nobody's, and not due
    await hidden.bury(hidden.consumer, leaving=True)
    await hidden.aclose()

    async with running(sw, quick) as outcomes:
        mine: list[bytes] = []
        consumers = ScopeKeys(SCOPE).subscriber(sw.name).consumers
        async with asyncio.timeout(15):
            while not mine:
                mine = await ask("ZRANGE", consumers, 0, -1)
        await ask("XCLAIM", stream, sw.name, mine[0], 0, entry)
        acked = await outcomes.until("acked")

    assert acked[2] == 1
