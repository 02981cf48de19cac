"""A person at the dashboard, with a real browser, and what goes wrong there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from httpx2 import AsyncClient
from playwright.async_api import Browser, Dialog, Page, expect

PATIENCE_MS = 60_000
WATCH = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) =>
    window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""
"""Notes what the page's policy had to stop."""


@asynccontextmanager
async def person(
    browser: Browser, gateway: AsyncClient, **options: Any
) -> AsyncIterator[Page]:
    """Open a page; at the end nothing may have gone wrong in it."""
    wrong: list[str] = []

    async def refuse(dialog: Dialog) -> None:
        wrong.append(f"dialog {dialog.message!r}")
        await dialog.dismiss()

    context = await browser.new_context(base_url=str(gateway.base_url), **options)
    context.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    await context.add_init_script(WATCH)
    page = await context.new_page()
    page.on("dialog", refuse)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    yield page
    if options.get("java_script_enabled", True):
        wrong += await page.evaluate("window.violations")
    await context.close()
    assert not wrong


async def live(page: Page) -> None:
    """Wait until the page hears what happens."""
    await page.wait_for_selector("#live[data-state=live]")
