"""Real processes killed with real signals: every file whole, every event handled."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from datetime import timedelta
from pathlib import Path

from broker.embedded import EmbeddedServer
from broker.manager import BackgroundFetchManager, connect
from broker.settings import Settings
from schemas.addresses import AddressPolicy
from tests.acceptance.fleet import SCOPE, Fleet, lines, until
from workers.demo.origin import Origin


async def test_workers_killed_at_random_moments_lose_no_byte(
    manager: BackgroundFetchManager, fleet: Fleet, origin: Origin
) -> None:
    """BF-LIFE-05, Guarantees 2, 3 and 7; R1, R2, R3, R6."""
    choose = random.Random(7)
    bodies = {f"/{n}": choose.randbytes(400_000 + 1000 * n) for n in range(12)}
    for path, body in bodies.items():
        origin.add(path, body, rate=150_000)
    total = sum(map(len, bodies.values()))
    urls = [origin.url(path) for path in bodies]
    fleet.subscribe()
    workers = [fleet.start("worker") for _ in range(2)]

    registration = await manager.fetch("x", urls)
    for share in sorted(choose.uniform(0.25, 0.8) for _ in range(3)):
        await until(registration, round(share * total))
        for worker in workers:  # one of them holds the lane
            fleet.kill(worker)
        workers = [fleet.start("worker") for _ in range(2)]
    ended = await until(registration, 2 * total)
    handled = await lines(fleet.handled, 1)

    assert ended.result == "success"
    assert [line[:3] for line in handled] == [["backgroundfetchsuccess", "x", "1"]]
    resumed = [seen for seen in origin.log if "range" in seen.headers]
    assert resumed, "a killed worker's bytes were downloaded again"


async def test_files_are_those_of_the_origin_after_the_kills(
    manager: BackgroundFetchManager, fleet: Fleet, origin: Origin
) -> None:
    """Guarantee 2: bytes compared one by one; the hold keeps them readable."""
    choose = random.Random(11)
    bodies = {f"/{n}": choose.randbytes(300_000) for n in range(6)}
    for path, body in bodies.items():
        origin.add(path, body, rate=200_000, cut_after=[100_000])
    worker = fleet.start("worker")
    fleet.start("worker")

    registration = await manager.fetch(
        "x", [origin.url(path) for path in bodies], hold=timedelta(hours=1)
    )
    await until(registration, 500_000)
    fleet.kill(worker)
    ended = await until(registration, 10**9)

    assert ended.result == "success"
    for record in await registration.match_all():
        path = record.request.url.removeprefix(origin.url(""))
        stored = await (await record.response_ready).read()
        assert stored == bodies["/" + path.lstrip("/")]


async def test_a_killed_subscribers_event_is_handled_by_another_process(
    manager: BackgroundFetchManager, fleet: Fleet
) -> None:
    """BF-WAIT-13, Guarantees 3 and 4; R10: the one that holds it dies."""
    processes = {p.pid: p for p in (fleet.subscribe(HANG="1") for _ in range(2))}
    registration = await manager.fetch("x", "https://cdn.example/1")
    await registration.abort()
    [first] = await lines(fleet.handled, 1)
    await registration.refresh()
    available = registration.records_available

    fleet.kill(processes[int(first[3])])
    _, second = await lines(fleet.handled, 2)
    async with asyncio.timeout(30):
        while registration.records_available:
            await registration.changed(since=registration.state.progress)
            await registration.refresh()

    assert available
    assert second[:3] == ["backgroundfetchabort", "x", "2"]
    assert second[3] != first[3]


async def test_a_producer_may_die_as_soon_as_fetch_has_returned(
    manager: BackgroundFetchManager, fleet: Fleet, origin: Origin
) -> None:
    """Guarantee 1, BF-FETCH-23: the job was never enqueued, and the work is done."""
    origin.add("/a", b"x" * 1000)
    program = (
        "import asyncio, os, signal\n"
        "from broker import connect\n"
        "async def main():\n"
        "    async with connect(scope='podcasts') as background_fetch:\n"
        "        background_fetch._registrar._enqueue = die\n"
        f"        await background_fetch.fetch('x', [{origin.url('/a')!r}])\n"
        "async def die(*_):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    producer = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, env=fleet.environment
    )
    async with asyncio.timeout(60):
        died = await producer.wait()
    fleet.start("worker")

    found = await manager.find("x")
    assert found is not None
    ended = await until(found, 10**9)

    assert died == -signal.SIGKILL
    assert ended.result == "success"


async def test_workers_and_subscribers_outlive_a_killed_redis(
    tmp_path: Path, origin: Origin
) -> None:
    """Faults 76: they reconnect; what was acknowledged before is not lost."""
    origin.add("/a", b"x" * 900_000, rate=300_000)
    directory = tmp_path / "redis"
    server = EmbeddedServer.start(directory, die_with_parent=True)
    fleet = Fleet(server.url, tmp_path)
    try:
        fleet.start("worker")
        fleet.subscribe()
        settings = Settings(redis_url=server.url, store=tmp_path / "store")
        settings = settings.model_copy(
            update={"allow_networks": AddressPolicy.parse("loopback")}
        )
        async with connect(scope=SCOPE, settings=settings) as manager:
            registration = await manager.fetch("x", origin.url("/a"))
            await until(registration, 200_000)
            # The append-only file is written within a second of each command.
            await manager.connection.ask("CONFIG", "SET", "appendfsync", "always")
            os.kill(server.pid, signal.SIGKILL)
            server.stop()
            server = EmbeddedServer.start(directory, die_with_parent=True)
            handled = await lines(fleet.handled, 1)

        assert handled[0][:2] == ["backgroundfetchsuccess", "x"]
        assert all(process.poll() is None for process in fleet.processes)
    finally:
        fleet.close()
        server.stop()
