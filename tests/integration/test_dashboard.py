"""The dashboard in a real browser: live, by keyboard, hostile, without scripts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import anyio
import pytest
from axe_playwright_python.async_playwright import Axe
from httpx2 import AsyncClient
from playwright.async_api import Browser, expect

from broker.accounts import Account, Role, entry, password_proof
from broker.manager import BackgroundFetchManager
from broker.settings import Settings
from tests.integration.browsing import live, person
from tests.integration.clock import SCOPE
from tests.integration.delivering import Process
from tests.integration.serving import serving
from tests.integration.working import perform
from workers.demo.origin import Origin
from workers.engine import Engine

pytestmark = pytest.mark.tool("chromium")
URL = "https://origin.example/file"
HOSTILE = "\"'></h2><script>alert(1)</script><img src=x onerror=alert(2)>{{7*7}}"
ROW = "#rows .row"


async def test_a_bar_moves_in_its_place_and_the_end_is_announced(
    chromium: Browser,
    gateway: AsyncClient,
    manager: BackgroundFetchManager,
    origin: Origin,
    engine: Engine,
) -> None:
    """BF-DISP-02: what moves is seen to move; nothing jumps."""
    gate = asyncio.Event()
    origin.add("/file", b"x" * 100_000, hold=gate)
    registration = await manager.fetch(
        "ep-5", origin.url("/file"), title="Episode 5", download_total=100_000
    )
    await manager.fetch("later", URL, title="Waits below")
    async with person(chromium, gateway) as page:
        await page.goto("/fetches")
        await live(page)
        row = page.locator(ROW, has_text="Episode 5")
        before = await row.bounding_box()

        working = asyncio.create_task(perform(engine, registration))
        await expect(row.locator("progress")).to_have_attribute("value", "50")
        half = await row.bounding_box()
        gate.set()
        await working
        await expect(row.locator(".chip")).to_have_text("succeeded")
        await expect(page.locator("#announcer")).to_contain_text("Episode 5: succeeded")

        assert before == half == await row.bounding_box()
        tab = page.locator("#tabs a", has_text="Succeeded")
        await expect(tab.locator(".number")).to_have_text("1")


async def test_a_click_shows_its_window_to_the_person_who_clicked(
    chromium: Browser,
    gateway: AsyncClient,
    manager: BackgroundFetchManager,
    process: Process,
) -> None:
    """BF-DISP-09, design § openWindow: a link to follow, never opened by itself."""
    await process()
    registration = await manager.fetch("ep-5", URL, title="Episode 5")
    address = f"/fetches/{SCOPE}/{registration.uid}"
    async with person(chromium, gateway) as ada, person(chromium, gateway) as bob:
        for page in (ada, bob):
            await page.goto(address)
            await live(page)

        # The whole card is the target, also where nothing is written.
        await ada.locator(".card").click(position={"x": 10, "y": 10})
        await expect(ada.locator("#window")).to_contain_text("is published")
        target = "https://podcasts.example/latest"
        await registration.open_window("backgroundfetchclick.1", target)

        await expect(ada.locator("#window a")).to_have_attribute("href", target)
        assert await bob.locator(f"a[href='{target}']").count() == 0
        assert len(ada.context.pages) == 1


async def test_the_keyboard_moves_aborts_and_helps(
    chromium: Browser, gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    """BF-DISP-07: abort asks first, and the focus stays where it was."""
    for number in range(3):
        await manager.fetch(f"ep-{number}", URL, title=f"Episode {number}")
    async with person(chromium, gateway) as page:
        await page.goto("/fetches")
        await live(page)

        for key in "jjjk":
            await page.keyboard.press(key)
        focused = page.locator(":focus")
        await expect(focused).to_have_text("Episode 1")
        await page.keyboard.press("a")
        await page.locator("#question-no").click()
        await page.keyboard.press("a")
        await expect(page.locator("#question-text")).to_contain_text("Episode 1")
        await page.locator("#question-yes").click()
        row = page.locator(ROW, has_text="Episode 1")
        await expect(row.locator(".chip")).to_have_text("aborted")
        await expect(focused).to_have_text("Episode 1")
        await page.keyboard.press("?")
        await expect(page.locator("#help")).to_be_visible()
        await page.keyboard.press("Escape")
        await page.keyboard.press("/")
        await expect(focused).to_have_id("filter")
        await page.keyboard.press("Tab")
        await page.locator(f"{ROW} h2 a").first.focus()
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/fetches/podcasts/*")

    found = await manager.find("ep-1")
    assert found is not None
    assert found.failure_reason == "aborted"


async def test_new_fetches_are_announced_and_shown_when_asked_for(
    chromium: Browser, gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    await manager.fetch("first", URL)
    async with person(chromium, gateway) as page:
        await page.goto("/fetches")
        await live(page)
        await manager.fetch("second", URL)
        news = page.locator("#news")
        await expect(news).to_have_text("1 new: show")
        await expect(page.locator("#announcer")).to_have_text("1 new fetch")
        assert await page.locator(ROW).count() == 1

        await page.locator("#live").click()
        await expect(page.locator("#live-word")).to_have_text("Paused")
        await manager.fetch("third", URL)
        await page.reload()
        await expect(page.locator("#live-word")).to_have_text("Paused")
        assert await page.locator(ROW).count() == 3
        await page.locator("#live").click()
        await live(page)


async def test_hostile_values_run_nowhere(
    chromium: Browser,
    gateway: AsyncClient,
    manager: BackgroundFetchManager,
    process: Process,
) -> None:
    """BF-DISP-04: titles, ids, URLs, headers, icons, reasons, windows are text."""
    await process()
    registration = await manager.fetch(
        HOSTILE, f"{URL}?{HOSTILE}", title=HOSTILE, icons=[{"src": HOSTILE}]
    )
    address = f"/fetches/{SCOPE}/{registration.uid}"
    async with person(chromium, gateway) as page:
        for path in ("/fetches", address, f"{address}/abort", f"/fetches?q={HOSTILE}"):
            await page.goto(path)
            await expect(page.locator("main")).to_contain_text("<script>alert(1)")
            assert await page.locator("main img[src=x], main script").count() == 0
        await page.goto(address)
        await live(page)
        await page.locator(".card").click(position={"x": 10, "y": 10})
        await expect(page.locator("#window")).to_contain_text("is published")
        await registration.open_window("backgroundfetchclick.1", "javascript:alert(3)")
        await expect(page.locator("#window")).to_contain_text("javascript:alert(3)")
        assert await page.locator("a[href^=javascript]").count() == 0
        await registration.abort()
        await expect(page.locator(".card .chip")).to_have_text("aborted")


async def test_without_scripts_everything_is_read_and_aborted(
    chromium: Browser, gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    await manager.fetch("ep-5", URL, title="Episode 5")
    async with person(chromium, gateway, java_script_enabled=False) as page:
        await page.goto("/fetches")
        await page.get_by_role("button", name="Pause Episode 5").click()
        await expect(page.locator(".card .chip")).to_have_text("paused")
        await page.get_by_role("button", name="Episode 5", exact=True).click()
        await expect(page.locator("#window")).to_contain_text("is published")
        await page.get_by_role("link", name="Abort Episode 5").click()
        await page.get_by_role("button", name="Abort").click()
        await expect(page.locator(".card .chip")).to_have_text("aborted")
        await page.goto("/fetches?state=aborted")
        await expect(page.locator(ROW)).to_have_count(1)


async def test_all_that_a_filter_matches_is_retried_after_a_question(
    chromium: Browser, gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    for number in range(3):
        registration = await manager.fetch(f"ep-{number}", URL, title=f"Ep {number}")
        await registration.abort()
    async with person(chromium, gateway) as page:
        await page.goto(f"/fetches?scope={SCOPE}&state=aborted&q=id:ep-*")
        await expect(page.locator(ROW)).to_have_count(3)
        await page.get_by_role("link", name="Retry all").click()
        await page.get_by_role("button", name="Retry").click()
        await expect(page.locator("main")).to_contain_text("3")

    assert sorted(await manager.get_ids()) == ["ep-0", "ep-1", "ep-2"]


async def test_a_viewer_logs_in_sees_and_is_refused(
    chromium: Browser,
    settings: Settings,
    manager: BackgroundFetchManager,
    tmp_path: Path,
) -> None:
    viewer = Account("eve", frozenset({Role.VIEWER}), (SCOPE,), password_proof("pass"))
    accounts = tmp_path / "accounts.toml"
    await anyio.Path(accounts).write_text(entry(viewer))
    registration = await manager.fetch("ep-5", URL, title="Episode 5")
    address = f"/fetches/{SCOPE}/{registration.uid}"
    login = {"username": "eve", "password": "pass"}
    guarded = settings.model_copy(update={"accounts": accounts})
    async with (
        serving(guarded) as client,
        person(chromium, client, http_credentials=login) as page,
    ):
        await page.goto(f"/fetches?scope={SCOPE}")
        await live(page)
        await expect(page.locator(ROW)).to_contain_text("Episode 5")
        assert await page.get_by_role("button", name="Pause Episode 5").count() == 0

        await page.goto(f"{address}/abort")
        await expect(page.locator("main")).to_contain_text("no producer of scope")
        await page.goto("/fetches?scope=other")
        await expect(page.locator("main")).to_contain_text("no viewer of scope")

    assert await manager.get("ep-5") is registration


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_pages_are_accessible_and_fit_a_phone(
    chromium: Browser,
    gateway: AsyncClient,
    manager: BackgroundFetchManager,
    process: Process,
    scheme: str,
) -> None:
    """No violation that axe-core knows of, and no scrolling sideways at 390 pixels."""
    await process("mirror")
    registration = await manager.fetch("ep-5", [URL, "https://x.example/" + "y" * 300])
    paused = await manager.fetch("paused", URL, download_total=10)
    await paused.pause()
    await registration.click()
    await (await manager.fetch("aborted", URL, title="A title " * 30)).abort()
    address = f"/fetches/{SCOPE}/{registration.uid}"
    async with person(chromium, gateway, color_scheme=scheme) as page:
        for path in (
            *("/fetches", "/fetches?q=nothing", address, f"{address}/abort"),
            *(
                "/events",
                "/dead",
                "/dead/replay",
                "/bulk/retry",
                "/workers",
                "/origins",
                "/queues",
            ),
            "/fetches/podcasts/missing",
        ):
            await page.set_viewport_size({"width": 1280, "height": 900})
            await page.goto(path)
            found = await Axe().run(page)
            assert not found.response["violations"], path
            await page.set_viewport_size({"width": 390, "height": 844})
            width = await page.evaluate("document.documentElement.scrollWidth")
            assert width <= 390, path
            found = await Axe().run(page)
            assert not found.response["violations"], path
