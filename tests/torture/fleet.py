"""The workers of a torture, and what may happen to them: they are real processes."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

_REPOSITORY = Path(__file__).parents[2]
_POLL = 0.05
_LEAVING_SECONDS = 15.0


class Forge:
    """The process that forks workers, as we speak with it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._asking = asyncio.Lock()

    async def start(self, variables: Mapping[str, str]) -> int:
        """Fork a worker and return its process id."""
        return int(await self._ask(f"start {json.dumps(dict(variables))}"))

    async def ended(self, process: int) -> str:
        """Return the exit code of a worker, or nothing while it runs."""
        return await self._ask(f"ended {process}")

    async def gone(self, process: int) -> str:
        """Return the exit code of a worker once it has ended."""
        while not (code := await self.ended(process)):  # noqa: ASYNC110
            await asyncio.sleep(_POLL)
        return code

    async def _ask(self, line: str) -> str:
        # Whoever is cancelled must not leave an answer behind for the next one.
        return await asyncio.shield(self._exchange(line))

    async def _exchange(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        async with self._asking:
            self._process.stdin.write(f"{line}\n".encode())
            line_back = await self._process.stdout.readline()
        if not line_back:
            raise RuntimeError("the forge of the workers has ended")
        return line_back.decode().strip()


class Fleet:
    """As many workers as there were at first, whoever is killed."""

    def __init__(
        self,
        forge: Forge,
        variables: Mapping[str, str],
        choose: random.Random,
    ) -> None:
        self._forge = forge
        self._variables = variables
        self._choose = choose
        self._running: list[int] = []
        self._stopped: set[int] = set()
        self._leaving: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.complaints: list[str] = []
        """Workers that ended on their own, or did not leave when told to."""

    async def start(self) -> None:
        """Start one more worker, with a durability of its own."""
        durability = self._choose.choice(("full", "boot", "none"))
        variables = {**self._variables, "BGFETCH_DURABILITY": durability}
        self._running.append(await self._forge.start(variables))

    async def kill(self, pick: float) -> None:
        """Kill a worker, stopped ones too, and start another."""
        process = self._picked([*self._running, *sorted(self._stopped)], pick)
        self._forget(process)
        os.kill(process, signal.SIGKILL)
        await self._forge.gone(process)
        await self.start()

    async def leave(self, pick: float) -> None:
        """Tell a worker to leave in order, and start another."""
        if self._running:
            process = self._picked(self._running, pick)
            self._forget(process)
            self._leaving.add(process)
            os.kill(process, signal.SIGTERM)
            self._later(self._left(process))
            await self.start()

    async def stop(self, pick: float, seconds: float) -> None:
        """Stop a worker for a while, unless it is the last one."""
        if len(self._running) > 1:
            process = self._picked(self._running, pick)
            self._running.remove(process)
            self._stopped.add(process)
            os.kill(process, signal.SIGSTOP)
            self._later(self._wake(process, seconds))

    async def check(self) -> None:
        """Complain of workers that ended though nobody told them to."""
        for process in tuple(self._running):
            code = await self._forge.ended(process)
            if code and process in (*self._running, *self._stopped):
                self.complaints.append(f"worker {process} ended by itself: {code}")
                self._forget(process)
                await self.start()

    async def close(self) -> None:
        """Kill all that are left."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for process in (*self._running, *self._stopped, *self._leaving):
            os.kill(process, signal.SIGKILL)
            await self._forge.gone(process)

    def _picked(self, processes: list[int], pick: float) -> int:
        return processes[int(pick * len(processes)) % len(processes)]

    def _forget(self, process: int) -> None:
        self._stopped.discard(process)
        with suppress(ValueError):
            self._running.remove(process)

    async def _wake(self, process: int, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if process in self._stopped:
            os.kill(process, signal.SIGCONT)
            self._stopped.remove(process)
            self._running.append(process)

    async def _left(self, process: int) -> None:
        try:
            async with asyncio.timeout(_LEAVING_SECONDS):
                await self._forge.gone(process)
        except TimeoutError:
            self.complaints.append(f"worker {process} does not leave")
            os.kill(process, signal.SIGKILL)
            await self._forge.gone(process)
        self._leaving.discard(process)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


@asynccontextmanager
async def running(
    count: int, variables: Mapping[str, str], choose: random.Random, log: Path
) -> AsyncIterator[Fleet]:
    """Have workers at work; none is left in the end."""
    async with forging(log) as forge:
        fleet = Fleet(forge, variables, choose)
        try:
            for _ in range(count):
                await fleet.start()
            yield fleet
        finally:
            await fleet.close()


@asynccontextmanager
async def forging(log: Path) -> AsyncIterator[Forge]:
    """Have a forge; what it has forked and nobody has killed leaves with it."""
    leash, held = os.pipe()
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.torture.forge",
            str(leash),
            cwd=_REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            pass_fds=[leash],
            start_new_session=True,  # Ctrl-C is for us alone
        )
    os.close(leash)
    try:
        yield Forge(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
        os.close(held)
