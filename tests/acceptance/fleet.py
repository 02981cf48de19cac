"""Processes of the command line as tests start and end them, and what they tell."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio

from broker.registration import BackgroundFetchRegistration
from schemas.fetches import Progress

SCOPE = "podcasts"
ROOT = Path(__file__).parents[2]
HANDLER = '''
import asyncio, os, sys
from pathlib import Path
from workers import BackgroundFetchEvent, ServiceWorker

sw = ServiceWorker("podcasts")
handled = Path(os.environ["HANDLED"])


async def handle(event: BackgroundFetchEvent) -> None:
    """Say who handles which attempt; hold on to the first one for ever."""
    line = f"{event.type} {event.registration.id} {event.attempt} {os.getpid()}\\n"
    with handled.open("a") as file:
        file.write(line)
    if os.environ.get("HANG") == "1" and event.attempt == 1:
        await asyncio.Event().wait()


for type in ("success", "fail", "abort", "click"):
    sw.add_event_listener(f"backgroundfetch{type}", handle)
'''


class Fleet:
    """Processes of the command line, and what they may be asked to do: die."""

    def __init__(self, url: str, directory: Path) -> None:
        self.handled = directory / "handled"
        self.handled.touch()
        (directory / "handler.py").write_text(HANDLER)
        self.environment = {
            **os.environ,
            "BGFETCH_REDIS_URL": url,
            "BGFETCH_STORE": str(directory / "store"),
            "BGFETCH_ALLOW_NETWORKS": "loopback",
            "BGFETCH_LEASE": "1",
            "BGFETCH_BACKOFF": "0.05",
            "BGFETCH_CHECKPOINT_INTERVAL": "0.1",
            "HANDLED": str(self.handled),
            "PYTHONPATH": f"{ROOT}{os.pathsep}{directory}",
        }
        self.processes: list[subprocess.Popen[bytes]] = []
        self._told = directory / "log"
        self._log = self._told.open("ab")

    def start(self, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start one ``bgfetch`` process."""
        return self._launch(
            sys.executable, "-m", "workers.cli", *command, **environment
        )

    def start_rq(self, *command: str) -> subprocess.Popen[bytes]:
        """Start one process of RQ's own command line."""
        return self._launch(str(Path(sys.executable).with_name("rq")), *command)

    def start_node(self, script: Path, **environment: str) -> subprocess.Popen[bytes]:
        """Start a program in JavaScript."""
        return self._launch("node", str(script), **environment)

    @property
    def said(self) -> Path:
        """What all processes have printed."""
        return self._told

    def _launch(self, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            command,
            env={**self.environment, **environment},
            stdout=self._log,
            stderr=self._log,
        )
        self.processes.append(process)
        return process

    def subscribe(self, **environment: str) -> subprocess.Popen[bytes]:
        """Start one process of the subscriber."""
        return self.start("subscribe", "handler:sw", **environment)

    async def serve(self) -> tuple[subprocess.Popen[bytes], str]:
        """Start a gateway; return it and the origin that it serves."""
        process = self.start("serve", "--port", "0", "--log-format", "json")
        async with asyncio.timeout(60):
            while True:
                told = await anyio.Path(self._told).read_text()
                for line in told.splitlines():
                    if '"gateway_starts"' in line:
                        return process, str(json.loads(line)["address"])
                await asyncio.sleep(0.02)

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kill with SIGKILL: nothing in the process can react."""
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        self.processes.remove(process)

    def close(self) -> None:
        """End whatever still runs."""
        for process in self.processes:
            process.kill()
            process.wait(10)
        self._log.close()


async def until(registration: BackgroundFetchRegistration, least: int) -> Progress:
    """Wait until so many bytes are stored, or the fetch has ended."""
    async with asyncio.timeout(60):
        async for progress in registration.progress():
            if progress.downloaded >= least or progress.result:
                return progress
    raise AssertionError("progress ended without a result")


async def lines(path: Path, count: int) -> list[list[str]]:
    """Wait until a file has so many lines."""
    async with asyncio.timeout(60):
        while True:
            found = (await anyio.Path(path).read_text()).splitlines()
            if len(found) >= count:
                return [line.split() for line in found]
            await asyncio.sleep(0.02)
