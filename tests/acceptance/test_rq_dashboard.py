"""Queue dashboards that exist: rq-dashboard and ``rq info`` over our queues."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from httpx2 import AsyncClient, HTTPError

from broker.embedded import EmbeddedServer
from broker.manager import BackgroundFetchManager
from tests.acceptance.fleet import Fleet, until
from workers.demo.origin import Origin

REGISTRIES = ("queued", "started", "failed", "finished", "deferred", "scheduled")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def asked(client: AsyncClient, path: str, ready: Callable[[Any], bool]) -> Any:
    """Ask for data until they are as expected."""
    async with asyncio.timeout(60):
        while True:
            try:
                answer = await client.get(path)
                if answer.status_code == 200 and ready(answer.json()):
                    return answer.json()
            except HTTPError:
                pass
            await asyncio.sleep(0.05)


async def test_rq_dashboard_shows_every_page_while_lanes_run_wait_and_died(
    fleet: Fleet, manager: BackgroundFetchManager, origin: Origin
) -> None:
    """Issue: it starts with the right serializer, and no page is an error page."""
    held = asyncio.Event()
    origin.add("/a", b"x" * 200_000, hold_after=100_000, hold=held)
    lost = fleet.start("worker", "--concurrency", "1")
    running = await manager.fetch("ep-5", origin.url("/a"), title="Episode 5")
    await until(running, 100_000)
    waiting = await manager.fetch("ep-6", origin.url("/a"))
    fleet.kill(lost)
    fleet.start("worker", "--concurrency", "1")
    port = free_port()
    fleet.start("rq-dashboard", "--port", str(port))

    async with AsyncClient(
        base_url=f"http://127.0.0.1:{port}", follow_redirects=True
    ) as client:

        def settled(told: Any) -> bool:
            [queue] = [each for each in told["queues"] if each["name"] == "bgfetch"]
            return bool(
                queue["failed_job_registry_count"]
                and queue["started_job_registry_count"]
                and queue["count"]
            )

        await asked(client, "/0/data/queues.json", settled)
        jobs = {}
        for registry in REGISTRIES:
            told = await client.get(f"/0/data/jobs/bgfetch/{registry}/8/asc/1.json")
            page = await client.get(f"/0/view/jobs/bgfetch/{registry}/8/asc/1")
            assert (told.status_code, page.status_code) == (200, 200), registry
            jobs[registry] = told.json()["jobs"]
        for job in [*jobs["started"], *jobs["queued"], *jobs["failed"]]:
            told = await client.get(f"/0/data/job/{job['id']}.json")
            page = await client.get(f"/0/view/job/{job['id']}")
            assert (told.status_code, page.status_code) == (200, 200), job
        workers = await client.get("/0/data/workers.json")
        pages = [await client.get(f"/0/view/{name}") for name in ("queues", "workers")]
        deleted = await client.post(f"/job/{jobs['queued'][0]['id']}/delete")

    live = [job["description"] for job in (*jobs["started"], *jobs["queued"])]
    assert sorted(live) == [f"fetch podcasts/ep-{n} (1 record)" for n in (5, 6)]
    assert "its worker died" in jobs["failed"][0]["exc_info"]
    assert {page.status_code for page in pages} == {200}
    assert workers.status_code == 200
    assert deleted.json() == {"status": "DISABLED"}
    held.set()
    assert (await until(waiting, 200_000)).downloaded == 200_000


async def test_rq_info_shows_our_queues(
    server: EmbeddedServer, manager: BackgroundFetchManager
) -> None:
    await manager.fetch("ep-5", "https://origin.example/a")
    await manager.fetch("ep-6", "https://origin.example/b", priority="high")

    command = [str(Path(sys.executable).with_name("rq")), "info", "--raw"]
    told = await asyncio.to_thread(
        subprocess.run,
        [*command, "--url", server.url],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert re.search(r"^queue bgfetch 1\b", told.stdout, re.MULTILINE), told.stdout
    assert re.search(r"^queue bgfetch-high 1\b", told.stdout, re.MULTILINE)
