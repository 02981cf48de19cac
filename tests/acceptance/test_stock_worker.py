"""RQ's own worker runs the same jobs, with the flags that the documentation gives."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import sys
from pathlib import Path

import pytest

from broker.manager import connect
from broker.settings import Settings
from workers.demo.origin import Origin

ROOT = Path(__file__).parents[2]


async def rq_worker(redis_url: str, store: Path) -> tuple[int, str]:
    """Run the documented command until the queues are empty."""
    text = await asyncio.to_thread((ROOT / "docs" / "operating.md").read_text)
    command = re.search(r"^rq worker .*$", text, re.MULTILINE)
    assert command is not None
    words = shlex.split(command[0].replace("redis://redis:6379/0", redis_url))
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name(words[0])),
        *[*words[1:], "--burst"],
        env={
            **os.environ,
            "BGFETCH_REDIS_URL": redis_url,
            "BGFETCH_STORE": str(store),
            "BGFETCH_ALLOW_NETWORKS": "loopback",
            "PYTHONPATH": str(ROOT),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


@pytest.mark.parametrize("priority", ["high", "auto", "low"])
async def test_a_stock_worker_carries_out_a_fetch(
    redis_url: str, tmp_path: Path, priority: str
) -> None:
    """Issue: plain ``rq worker``; R1."""
    settings = Settings.load(
        redis_url=redis_url, store=tmp_path / "store", allow_networks="loopback"
    )
    async with Origin() as origin, connect(scope="s", settings=settings) as manager:
        origin.add("/a", b"x" * 100_000, cut_after=[50_000])
        registration = await manager.fetch("x", origin.url("/a"), priority=priority)

        code, output = await rq_worker(redis_url, tmp_path / "store")

        await registration.refresh()
        assert (code, registration.result) == (0, "success"), output
        record = await registration.match(origin.url("/a"))
        assert record is not None
        assert await (await record.response_ready).read() == b"x" * 100_000
