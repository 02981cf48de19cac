"""A service with something to see: fetches in every state, letters, a busy origin."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from broker.embedded import EmbeddedServer
from broker.gateway import Server, create_app
from broker.manager import BackgroundFetchManager, connect
from broker.registration import BackgroundFetchRegistration
from broker.settings import Settings
from schemas.addresses import AddressPolicy
from workers.demo.origin import Origin

ROOT = Path(__file__).parents[2]
MIB = 1024 * 1024
HANDLER = '''
from workers import BackgroundFetchEvent, ServiceWorker

sw = ServiceWorker("podcasts", name="library")


@sw.on("backgroundfetchsuccess")
async def keep(event: BackgroundFetchEvent) -> None:
    """Keep what has arrived."""


@sw.on("backgroundfetchfail")
async def complain(event: BackgroundFetchEvent) -> None:
    """Fail until the event is a dead letter."""
    raise ConnectionError("the library's database does not answer")
'''
ICON = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64">
<rect width="64" height="64" fill="{}"/><circle cx="32" cy="26" r="9" fill="#fff"/>
<path d="M16 26a16 16 0 0 1 32 0M27 40h10l-2 16h-6z" fill="none" stroke="#fff"
stroke-width="4"/></svg>"""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the pages are, and which fetches are worth a picture."""

    address: str
    running: str
    failed: str


@asynccontextmanager
async def staged() -> AsyncIterator[Stage]:
    """Set up the service; nothing of it is left afterwards."""
    with (
        tempfile.TemporaryDirectory(prefix="bgshots", dir="/tmp") as home,
        EmbeddedServer.start(Path(home) / "redis", die_with_parent=True) as server,
        _processes(Path(home), server.url),
    ):
        settings = Settings(
            redis_url=server.url,
            store=Path(home) / "store",
            allow_networks=AddressPolicy.parse("loopback"),
            environment="staging",
        )
        async with Origin() as origin, Origin() as busy:
            _stock(origin, busy)
            base = origin.url("/")
            async with (
                connect(scope="podcasts", base_url=base, settings=settings) as podcasts,
                connect(scope="maps", base_url=base, settings=settings) as maps,
            ):
                running, failed = await _fetch(podcasts, maps, busy)
                async with _gateway(settings) as address:
                    yield Stage(address, _page(running), _page(failed))


def _page(registration: BackgroundFetchRegistration) -> str:
    return f"/fetches/{registration.scope}/{registration.uid}"


@contextmanager
def _processes(home: Path, url: str) -> Iterator[None]:
    (home / "handler.py").write_text(HANDLER)
    environment = {
        **os.environ,
        "BGFETCH_REDIS_URL": url,
        "BGFETCH_STORE": str(home / "store"),
        "BGFETCH_ALLOW_NETWORKS": "loopback",
        "BGFETCH_MAX_DELIVERIES": "2",
        "BGFETCH_REDELIVERY_BACKOFF": "0.1",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{home}",
    }
    with (home / "log").open("wb") as log:
        started = [
            subprocess.Popen(
                [sys.executable, "-m", "workers.cli", *command],
                env=environment,
                stdout=log,
                stderr=log,
            )
            for command in (["worker"], ["subscribe", "handler:sw"])
        ]
        try:
            yield
        finally:
            for process in started:
                process.terminate()
            for process in started:
                process.wait(60)


@asynccontextmanager
async def _gateway(settings: Settings) -> AsyncIterator[str]:
    server = Server(create_app(settings), "127.0.0.1", 0)
    serving = asyncio.create_task(server.serve())
    yield server.address
    server.stop()
    await serving


def _stock(origin: Origin, busy: Origin) -> None:
    for name, colour in (("show", "#3b5bdb"), ("map", "#2b8a3e")):
        body = ICON.format(colour).encode()
        origin.add(f"/{name}.svg", body, headers={"Content-Type": "image/svg+xml"})
    origin.add("/ep-1.mp3", b"1" * 3 * MIB)
    origin.add("/ep-2.mp3", b"2" * 2 * MIB)
    origin.add("/ep-5.mp3", b"5" * 60 * MIB, rate=900_000)
    origin.add("/tiles.bin", b"t" * 90 * MIB, rate=400_000)
    for number in range(12):
        origin.add(f"/season/{number}.mp3", bytes([number]) * 300_000)
    refusals = [(503, {"Retry-After": "600"})] * 20
    busy.add("/feed.xml", b"<rss/>", fail_first=refusals)


async def _fetch(
    podcasts: BackgroundFetchManager, maps: BackgroundFetchManager, busy: Origin
) -> tuple[BackgroundFetchRegistration, BackgroundFetchRegistration]:
    show, tiles = [{"src": "/show.svg"}], [{"src": "/map.svg"}]
    season = await podcasts.fetch(
        "season-1",
        [f"/season/{number}.mp3" for number in range(12)],
        title="Season 1, all twelve episodes",
        icons=show,
        download_total=12 * 300_000,
    )
    failed = await podcasts.fetch(
        "bonus", ["/ep-2.mp3", "/missing.mp3"], title="Bonus material", icons=show
    )
    first = await podcasts.fetch("ep-1", "/ep-1.mp3", title="Episode 1: Hello")
    for ended in (season, failed, first):
        await _until(ended, lambda each: bool(each.result))
    old = await maps.fetch("tiles-asia", "/tiles.bin?asia", title="Asia, zoom 0 to 9")
    await _until(old, lambda each: each.downloaded > 0)
    await old.abort()
    paused = await maps.fetch(
        "tiles-africa",
        "/tiles.bin?africa",
        title="Africa, zoom 0 to 9",
        icons=tiles,
        download_total=90 * MIB,
    )
    await _until(paused, lambda each: each.downloaded > MIB)
    await paused.pause()
    await maps.fetch(
        "tiles-europe", "/tiles.bin?europe", title="Europe, zoom 0 to 9", icons=tiles
    )
    running = await podcasts.fetch(
        "ep-5",
        ["/ep-5.mp3", "/show.svg", "/ep-1.mp3"],
        title="Episode 5: The durable queue",
        icons=show,
        download_total=64 * MIB,
    )
    await _until(running, lambda each: each.downloaded > 6 * MIB)
    await running.click()
    await podcasts.fetch("feed", busy.url("/feed.xml"), title="The feed of a busy host")
    await asyncio.sleep(1)  # for the busy host to be asked, and to complain
    return running, failed


async def _until(
    registration: BackgroundFetchRegistration,
    wanted: Callable[[BackgroundFetchRegistration], bool],
) -> None:
    async with asyncio.timeout(120):
        async for _ in registration.progress():
            if wanted(registration):
                return
