"""A download that takes longer than any worker lives."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise

from broker.keys import FetchKeys
from broker.manager import BackgroundFetchManager
from tests.acceptance.fleet import SCOPE, Fleet, until
from tests.integration.wire import Scripted

KILLS = 2
STEP = 200_000
"""Bytes that become a checkpoint in each worker's life."""
LOST = 50_000
"""Bytes that may still come after that; no checkpoint has to name them."""
BODY = random.Random(66).randbytes((KILLS + 1) * (STEP + LOST))


async def test_a_slow_download_goes_on_through_the_deaths_of_its_workers(
    manager: BackgroundFetchManager, fleet: Fleet
) -> None:
    """Faults row 66: each death costs at most what came after a checkpoint.

    Every worker gets a step, and a little more once that is safe; then it is killed.
    """
    starts: list[int] = []
    safe, at_rest = asyncio.Event(), asyncio.Event()

    async def slowly(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        found = head.partition("range: bytes=")[2].partition("-")[0]
        start = int(found or 0)
        starts.append(start)
        extent = f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"
        status = f"206 Partial\r\nContent-Range: {extent}"
        writer.write(
            f"HTTP/1.1 {status if found else '200 OK'}\r\n"
            f'ETag: "1"\r\nContent-Length: {len(BODY) - start}\r\n\r\n'.encode()
        )
        rest = memoryview(BODY)[start:]
        if len(starts) > KILLS:
            writer.write(rest)
            await writer.drain()
            return
        writer.write(rest[:STEP])
        await safe.wait()
        writer.write(rest[STEP : STEP + LOST])
        await writer.drain()
        at_rest.set()
        await reader.read()

    async with Scripted(slowly) as origin:
        worker = fleet.start("worker")
        registration = await manager.fetch("x", origin.url)
        keys = FetchKeys(SCOPE, registration.uid)
        for life in range(KILLS):
            async with asyncio.timeout(60):
                while (  # noqa: ASYNC110
                    len(starts) <= life
                    or await _checkpoint(manager, keys) < starts[life] + STEP
                ):
                    await asyncio.sleep(0.02)
                safe.set()
                await at_rest.wait()
            safe.clear()
            at_rest.clear()
            following = fleet.start("worker")
            fleet.kill(worker)
            worker = following
        ended = await until(registration, 2 * len(BODY))

    assert ended.result == "success"
    [record] = await registration.match_all()
    assert await (await record.response_ready).read() == BODY
    assert len(starts) == KILLS + 1
    gained = [after - before for before, after in pairwise(starts)]
    assert all(STEP <= each <= STEP + LOST for each in gained)


async def _checkpoint(manager: BackgroundFetchManager, keys: FetchKeys) -> int:
    checkpoint = (await manager.reader.look(keys, 0)).state.checkpoint
    return checkpoint.length if checkpoint else 0
