"""Plays scenarios in Chromium: a page and its service worker, on the origin itself."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable

from tests.oracle.browser import Browser, running
from tests.oracle.scenarios import HERE, Scenario, Stage, Step, Trace
from workers.demo.origin import Origin

_PAGE = b"<!doctype html><script src=player.js></script>"
_LOADED = """new Promise((done) => document.readyState === "complete"
    ? done() : addEventListener("load", done)).then(() => ready())"""


class Native:
    """A page, and its service worker."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    async def play(self, step: Step) -> Trace:
        """Carry out a step of the page; return what came of it."""
        expression = f"play({json.dumps(step)})"
        trace: Trace = await self._browser.evaluate(self._session, expression)
        return trace


async def record(
    program: str, scenarios: Iterable[Scenario]
) -> tuple[str, dict[str, Trace]]:
    """Return Chromium's version, and the trace of each scenario."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as downloads:
        async with Origin() as origin, running(program) as browser:
            version = (await browser.call("Browser.getVersion"))["product"]
            await _permit(browser, origin, downloads)
            return version, {
                scenario.name: await _play(browser, origin, scenario)
                for scenario in scenarios
            }


async def _permit(browser: Browser, origin: Origin, downloads: str) -> None:
    await browser.call(
        "Browser.grantPermissions",
        permissions=["backgroundFetch"],
        origin=origin.url(""),
    )
    # Else only the first fetch() of a page is permitted.
    await browser.call(
        "Browser.setDownloadBehavior", behavior="allowAndName", downloadPath=downloads
    )


async def _play(browser: Browser, origin: Origin, scenario: Scenario) -> Trace:
    stage = Stage(origin, scenario)
    script = (HERE / "player.js").read_bytes()
    steps = f"\nlisten({json.dumps(scenario.worker)});\n".encode()
    _serve(origin, scenario, "page.html", _PAGE, "text/html")
    _serve(origin, scenario, "player.js", script, "text/javascript")
    _serve(origin, scenario, "sw.js", script + steps, "text/javascript")
    target = (await browser.call("Target.createTarget", url="about:blank"))["targetId"]
    attached = await browser.call(
        "Target.attachToTarget", targetId=target, flatten=True
    )
    session: str = attached["sessionId"]
    await browser.call("Page.navigate", session=session, url=stage.base + "page.html")
    await browser.evaluate(session, _LOADED)
    try:
        return await stage.play(Native(browser, session))
    finally:
        await browser.call("Target.closeTarget", targetId=target)


def _serve(
    origin: Origin, scenario: Scenario, name: str, body: bytes, type: str
) -> None:
    origin.add(f"/{scenario.name}/{name}", body, headers={"Content-Type": type})
