"""What listeners can do with an event, and when it is too late for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable

import pytest

from broker.manager import BackgroundFetchManager
from broker.registration import BackgroundFetchRegistration
from broker.settings import Settings
from schemas.errors import InvalidOptions, InvalidState
from tests.integration.clock import SCOPE
from tests.integration.outcomes import running
from workers.demo.origin import Origin
from workers.engine import Engine
from workers.events import BackgroundFetchEvent, BackgroundFetchUpdateUIEvent
from workers.service_worker import ServiceWorker

ICONS = [{"src": "/ep-5.png"}]


@pytest.fixture
def sw() -> ServiceWorker:
    return ServiceWorker(SCOPE)


@pytest.fixture
async def fetched(
    manager: BackgroundFetchManager, settings: Settings
) -> AsyncIterator[BackgroundFetchRegistration]:
    """A fetch that ended well, with nobody who has heard of it yet."""
    engine = Engine(settings, reclaiming=False)
    await engine.start()
    async with Origin() as origin:
        origin.add("/ep-5.mp3", b"episode")
        registration = await manager.fetch(
            "ep-5", origin.url("/ep-5.mp3"), title="before", icons=ICONS
        )
        async with asyncio.timeout(30):
            await engine.perform(SCOPE, registration.uid, "job")
        await registration.refresh()
        assert registration.result == "success"
        yield registration
    await engine.aclose()


async def refused(call: Awaitable[object]) -> bool:
    try:
        await call
    except InvalidState:
        return True
    return False


async def test_a_listener_changes_what_people_see_once_while_its_event_is_active(
    fetched: BackgroundFetchRegistration, settings: Settings, sw: ServiceWorker
) -> None:
    """Faults 91; BF-UPD-02, -04, -05, -07, -08: a second, or a late one is refused."""
    events: list[BackgroundFetchUpdateUIEvent] = []
    told: list[object] = []
    fetched.onprogress = told.append

    @sw.on("backgroundfetchsuccess")
    async def succeeded(event: BackgroundFetchUpdateUIEvent) -> None:
        events.append(event)
        await asyncio.sleep(0)
        await event.update_ui(title="after")
        told.append(await refused(event.update_ui(title="again")))

    async with running(sw, settings) as outcomes:
        await outcomes.until("acked")
    await fetched.refresh()

    assert told == [True]
    assert (fetched.title, [icon.src for icon in fetched.icons]) == (
        "after",
        ["/ep-5.png"],
    )
    assert fetched.result == "success"
    assert await refused(events[0].update_ui(title="late"))


@pytest.mark.parametrize("first", [{}, {"icons": "none"}])
async def test_an_empty_or_refused_change_uses_up_the_only_one(
    first: dict[str, str],
    fetched: BackgroundFetchRegistration,
    settings: Settings,
    sw: ServiceWorker,
) -> None:
    """Faults 91, BF-UPD-03."""
    told: list[bool] = []

    @sw.on("backgroundfetchsuccess")
    async def succeeded(event: BackgroundFetchUpdateUIEvent) -> None:
        try:
            await event.update_ui(**first)  # type: ignore[arg-type]
        except InvalidOptions:
            assert first
        told.append(await refused(event.update_ui(title="after")))

    async with running(sw, settings) as outcomes:
        await outcomes.until("acked")
    await fetched.refresh()

    assert told == [True]
    assert fetched.title == "before"


async def test_a_click_on_a_fetch_that_has_ended_is_delivered_with_how_it_ended(
    fetched: BackgroundFetchRegistration, settings: Settings, sw: ServiceWorker
) -> None:
    """Faults 92, 93; BF-CLICK-01: records are gone, attributes stay."""
    clicked: list[tuple[str, int, bool, bool]] = []
    read: list[bytes] = []

    @sw.on("backgroundfetchsuccess")
    async def succeeded(event: BackgroundFetchEvent) -> None:
        [record] = await event.registration.match_all()
        read.append(await (await record.response_ready).read())

    @sw.on("backgroundfetchclick")
    async def click(event: BackgroundFetchEvent) -> None:
        registration = event.registration
        clicked.append(
            (
                registration.result,
                registration.downloaded,
                registration.records_available,
                await refused(registration.match_all()),
            )
        )

    async with running(sw, settings) as outcomes:
        await outcomes.until("acked")
        dispatch = await fetched.click()
        async with asyncio.timeout(15):
            settled = await dispatch.settled()

    assert read == [b"episode"]
    assert clicked == [("success", 7, False, True)]
    assert settled == {"default": "acked"}


async def test_promises_can_be_added_while_one_is_pending_and_not_after(
    fetched: BackgroundFetchRegistration, settings: Settings, sw: ServiceWorker
) -> None:
    """BF-WAIT-02, Faults 87; BF-WAIT-03: also after the listener has returned."""
    proceed, order = asyncio.Event(), list[str]()
    events: list[BackgroundFetchEvent] = []

    @sw.on("backgroundfetchsuccess")
    def succeeded(event: BackgroundFetchEvent) -> None:
        events.append(event)
        event.wait_until(first())

    async def first() -> None:
        await proceed.wait()
        events[0].wait_until(second())
        order.append("first")

    async def second() -> None:
        await asyncio.sleep(0)
        order.append("second")

    async with running(sw, settings) as outcomes:
        await outcomes.until("began")
        proceed.set()
        acked = await outcomes.until("acked")
    promise = first()

    assert acked[2] == 1
    assert order == ["first", "second"]
    with pytest.raises(InvalidState, match="no longer active"):
        events[0].wait_until(promise)
    with pytest.raises(RuntimeError, match="cannot reuse"):  # it was closed
        await promise
