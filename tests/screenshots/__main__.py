"""``run.py screenshots``: every page of the dashboard, light, dark and on a phone."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from playwright.async_api import Browser, Page, async_playwright

from tests.conftest import TOOLS
from tests.screenshots.stage import Stage, staged

PLACE = Path(__file__).parents[2] / "docs" / "screenshots"
VIEWS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1180, "height": 760}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1180, "height": 760}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
}


def pages(stage: Stage) -> dict[str, str]:
    """Each picture, and the page that it is of."""
    return {
        "fetches": "/fetches",
        "fetch": stage.running,
        "failed": stage.failed,
        "abort": f"{stage.running}/abort",
        "events": "/events",
        "dead": "/dead",
        "workers": "/workers",
        "origins": "/origins",
        "queues": "/queues",
    }


async def main() -> int:
    """Take all pictures; tell how large they are."""
    program = _chromium()
    if program is None:
        sys.stderr.write("screenshots: chromium is missing: apt-get install chromium\n")
        return 3
    PLACE.mkdir(parents=True, exist_ok=True)
    async with staged() as stage, async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox"]
        )
        for view in VIEWS:
            await _take(browser, stage, view)
        await browser.close()
    size = sum(each.stat().st_size for each in PLACE.glob("*.png"))
    sys.stdout.write(f"{PLACE}: {size // 1024} KiB\n")
    return 0


def _chromium() -> str | None:
    import shutil

    names, _ = TOOLS["chromium"]
    return next(filter(None, map(shutil.which, names)), None)


async def _take(browser: Browser, stage: Stage, view: str) -> None:
    context = await browser.new_context(
        base_url=stage.address,
        reduced_motion="reduce",
        **VIEWS[view],  # type: ignore[arg-type]
    )
    page = await context.new_page()
    for name, path in pages(stage).items():
        await page.goto(path)
        await _settle(page)
        await page.screenshot(path=PLACE / f"{name}-{view}.png")
    await context.close()


async def _settle(page: Page) -> None:
    """Wait until the page is live and has all its icons."""
    if await page.locator("body[data-live]").count():
        await page.wait_for_selector("#live[data-state=live]")
    await page.evaluate("""
        Promise.all([...document.images].map((image) =>
            image.complete || new Promise((done) => (image.onload = done))))
    """)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
