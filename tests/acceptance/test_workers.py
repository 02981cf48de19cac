"""Workers that leave, and workers whose helpers are killed: others go on."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import anyio
import pytest

from broker.embedded import EmbeddedServer
from broker.manager import BackgroundFetchManager
from tests.acceptance.fleet import Fleet, lines, until
from workers.demo.origin import Origin

BODY = bytes(range(256)) * 4000
HALF = len(BODY) // 2


async def test_a_worker_told_to_leave_keeps_every_byte_and_another_goes_on_at_once(
    manager: BackgroundFetchManager, fleet: Fleet, origin: Origin
) -> None:
    """Faults row 68: no lease has to end first, since it would take too long here."""
    hold = asyncio.Event()
    origin.add("/a", BODY, hold=hold)
    leaving = fleet.start("worker", BGFETCH_LEASE="300")
    registration = await manager.fetch("x", origin.url("/a"))
    await until(registration, HALF)
    fleet.start("worker", BGFETCH_LEASE="300")

    leaving.send_signal(signal.SIGTERM)
    code = await asyncio.to_thread(leaving.wait, 60)
    async with asyncio.timeout(60):
        while len(origin.log) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    hold.set()
    ended = await until(registration, 2 * len(BODY))

    assert code == 0
    assert ended.result == "success"
    assert [seen.headers.get("range") for seen in origin.log] == [
        None,
        f"bytes={HALF}-",
    ]
    [record] = await registration.match_all()
    assert await (await record.response_ready).read() == BODY


@pytest.mark.skipif(sys.platform != "linux", reason="finds a child in /proc")
async def test_a_killed_work_horse_of_a_stock_worker_is_replaced(
    manager: BackgroundFetchManager,
    fleet: Fleet,
    origin: Origin,
    server: EmbeddedServer,
) -> None:
    """Faults row 69: as by the system, for want of memory; a subscriber reclaims."""
    hold = asyncio.Event()
    origin.add("/a", BODY, hold=hold)
    queues = ("bgfetch-high", "bgfetch", "bgfetch-low")
    options = ("--url", server.url, "--job-class", "broker.queue.LaneJobClass")
    stock = fleet.start_rq("worker", *options, *queues)
    fleet.subscribe()
    registration = await manager.fetch("x", origin.url("/a"))
    await until(registration, HALF)

    children = anyio.Path(f"/proc/{stock.pid}/task/{stock.pid}/children")
    [horse] = map(int, (await children.read_text()).split())
    os.kill(horse, signal.SIGKILL)
    hold.set()
    ended = await until(registration, 2 * len(BODY))
    handled = await lines(fleet.handled, 1)

    assert ended.result == "success"
    assert stock.poll() is None
    assert [line[:3] for line in handled] == [["backgroundfetchsuccess", "x", "1"]]
    assert len(origin.log) == 2
