"""The subscriber of the documentation, in JavaScript, against a real gateway."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from broker.manager import connect
from broker.settings import Settings
from tests.acceptance.fleet import ROOT, SCOPE, Fleet


@pytest.mark.tool("node")
async def test_the_documented_subscriber_handles_every_event_once(
    fleet: Fleet, tmp_path: Path
) -> None:
    """Guarantee 3, over HTTP, in another language."""
    text = (ROOT / "docs" / "http-events.md").read_text()
    [program] = [
        each for each in re.findall(r"```js\n(.*?)```", text, re.S) if "attend" in each
    ]
    script = tmp_path / "subscriber.mjs"
    script.write_text(program)
    _, address = await fleet.serve()
    settings = Settings(
        redis_url=fleet.environment["BGFETCH_REDIS_URL"], store=tmp_path / "store"
    )

    fleet.start_node(script, GATEWAY=address)
    async with connect(scope=SCOPE, settings=settings) as manager:
        fetches = [
            await manager.fetch(f"ep-{number}", "https://origin.example/file")
            for number in range(5)
        ]
        for fetch in fetches:
            await fetch.abort()
        async with asyncio.timeout(60):
            outcomes = [await fetch.settled() for fetch in fetches]

    said = fleet.said.read_text().splitlines()
    handled = sorted(line for line in said if line.startswith("backgroundfetch"))
    assert outcomes == [{"billing": "acked"}] * 5
    assert handled == [f"backgroundfetchabort ep-{number}" for number in range(5)]
