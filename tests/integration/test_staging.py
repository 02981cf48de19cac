"""Large registrations: staged, then active in one step, or never (R22, guarantee 1)."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from broker.manager import BackgroundFetchManager
from broker.registrar import STAGE_SIZE
from schemas.errors import QuotaExceeded
from tests.integration.clock import SCOPE

ROOT = Path(__file__).parent.parent.parent
MANY = 100_000
MOST_PER_REQUEST = 4096
"""Bytes of memory that a request may take in the process that registers it."""
MEASURE = """
import asyncio, resource, sys
from broker import connect

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * {unit}

async def main():
    async with connect(sys.argv[1], scope=sys.argv[2]) as background_fetch:
        await background_fetch.fetch("small", "https://cdn.example/")
        before = peak()
        urls = (f"https://cdn.example/{{n}}" for n in range({many}))
        await background_fetch.fetch("x", urls)
        print(peak() - before)

asyncio.run(main())
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False
    )


@pytest.mark.parametrize("batches", [1, 3, 4, 99])
async def test_a_producer_that_dies_while_it_stages_leaves_nothing_for_long(
    manager: BackgroundFetchManager, batches: int
) -> None:
    """R22, BF-FETCH-07: nothing is half stored; what it staged is forgotten."""
    ask, url = manager.connection.ask, manager.connection.url
    count = 4 * STAGE_SIZE
    dying = "tests.integration.dying_producer"

    died = run("-m", dying, url, SCOPE, str(batches), str(count))
    left: list[bytes] = await ask("KEYS", "*")
    ttls = [await ask("PTTL", key) for key in left]
    staged = [await ask("HLEN", key) for key in left]

    assert died.returncode == -signal.SIGKILL, died.stderr
    assert all(key.endswith(b":staged") for key in left)
    assert all(ttl > 0 for ttl in ttls)
    assert staged == [min(batches, 4) * STAGE_SIZE]
    assert await manager.get_ids() == []
    assert await manager.history() == []
    for key in left:  # ten minutes pass
        await ask("PEXPIRE", key, 0)
    assert await ask("DBSIZE") == 0
    again = await manager.fetch("x", (f"/{n}" for n in range(count)))
    assert again.state.records == count


async def test_a_redis_that_is_full_keeps_nothing_of_what_was_staged(
    manager: BackgroundFetchManager,
) -> None:
    """R22: it is refused in the midst of it, and what is there makes room again."""
    redis: Redis = manager.connection.redis
    await manager.fetch("before", "https://cdn.example/")
    used = (await redis.info("memory"))["used_memory"]
    await redis.config_set("maxmemory", used + 2_000_000)
    try:
        with pytest.raises(QuotaExceeded) as refused:
            await manager.fetch("x", (f"/{n}" for n in range(MANY)))
        staged = await manager.connection.ask("KEYS", "*:staged")
    finally:
        await redis.config_set("maxmemory", 0)

    assert isinstance(refused.value.__cause__, OutOfMemoryError)
    assert staged == []
    assert await manager.get_ids() == ["before"]


async def test_a_hundred_thousand_requests_take_bounded_memory(
    manager: BackgroundFetchManager,
) -> None:
    """BF-FETCH-06, BF-MATCH-03: in one call, and found again in their order."""
    unit = 1 if sys.platform == "darwin" else 1024
    code = MEASURE.format(unit=unit, many=MANY)

    measured = run("-c", code, manager.connection.url, SCOPE)

    assert measured.returncode == 0, measured.stderr
    assert int(measured.stdout) < MANY * MOST_PER_REQUEST
    registration = await manager.get("x")
    assert registration is not None
    found = await registration.match_all()
    assert [record.request.url for record in (found[0], found[-1])] == [
        f"https://cdn.example/{n}" for n in (0, MANY - 1)
    ]
    assert len(found) == registration.state.records == MANY
