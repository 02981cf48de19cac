"""§ updateUI, and § click: what listeners change and show."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable

from broker import BackgroundFetchManager
from broker.settings import Settings
from schemas.errors import InvalidState
from tests.conformance.stage import Stage
from tests.integration.outcomes import running
from workers import (
    BackgroundFetchEvent,
    BackgroundFetchUpdateUIEvent,
    ServiceWorker,
    WindowClient,
)

URL = "https://cdn.example/a"


async def refused(call: Awaitable[object]) -> bool:
    """Whether it is too late for this."""
    try:
        await call
    except InvalidState:
        return True
    return False


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


async def test_a_window_of_the_own_origin_is_a_client_and_another_is_none(
    manager: BackgroundFetchManager, settings: Settings, sw: ServiceWorker
) -> None:
    """BF-CLICK-05."""
    opened: list[WindowClient | None] = []
    urls = iter(["/latest", "https://other.example/"])

    @sw.on("backgroundfetchclick")
    async def clicked(event: BackgroundFetchEvent) -> None:
        opened.append(await sw.clients.open_window(next(urls)))

    registration = await manager.fetch("x", URL)
    async with running(sw, settings) as outcomes:
        for _ in range(2):
            await registration.click()
            await outcomes.until("acked")

    assert opened == [WindowClient("http://localhost:8780/latest"), None]
