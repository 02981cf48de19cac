"""Child processes that run our own commands: kept running, and ended before us.

A child has a session of its own, so that Ctrl-C reaches its parent alone, which ends
everything in order. It also holds the reading end of a pipe, its *leash*: when the
parent dies, however that happens, the pipe closes and the child ends itself.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

from broker.cli.exits import ChildEnded, ExitCode
from broker.cli.output import say

LEASH = "BGFETCH_LEASH"
"""Tells a child its end of the leash: the number of a file descriptor."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
STEADY = 10.0
"""Seconds that a child has to run for its next end to count as the first."""
LONGEST_LOG = 1024 * 1024
"""Bytes of a log beyond which the next child begins a new one."""
_HOPELESS = (ExitCode.USAGE, ExitCode.TARGET)


class Child:
    """One command of ours, as a process that is started again whenever it ends."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        once: bool = False,
        log: Path | None = None,
        grace: timedelta = timedelta(seconds=30),
    ) -> None:
        """With ``once`` its end is final; ``log`` takes its output, else ours does."""
        self.name = name
        self._command = command
        self._environment = environment
        self._once = once
        self._log = log
        self._patience = grace.total_seconds() + 5

    async def keep(self) -> int:
        """Run until cancelled, which ends the process first; with ``once``, its code.

        Raises:
            ChildEnded: the command can never run: wrong usage, target or setting.
        """
        pause = FIRST_PAUSE
        while True:
            began = time.monotonic()
            code = await self._run()
            if self._once:
                return code
            if code in _HOPELESS:
                if self._log:
                    say(f"no {self.name} can run here{self._where()}")
                raise ChildEnded(self.name, code)
            if time.monotonic() - began > STEADY:
                pause = FIRST_PAUSE
            say(f"the {self.name} ended unexpectedly ({_told(code)}){self._where()}; "
                f"another one starts in {pause:g} s")  # fmt: skip
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _run(self) -> int:
        with ExitStack() as stack:
            theirs, ours = os.pipe()
            stack.callback(os.close, ours)
            with ExitStack() as inherited:
                inherited.callback(os.close, theirs)
                output = self._open_log(inherited) if self._log else None
                process = await self._spawn(theirs, output)
            try:
                return await process.wait()
            finally:
                if process.returncode is None:
                    await self._end(process)

    async def _spawn(
        self, leash: int, output: int | None
    ) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self._command,
            env={**self._environment, LEASH: str(leash)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(leash,),
            start_new_session=True,
        )

    def _open_log(self, stack: ExitStack) -> int:
        assert self._log is not None
        self._log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        long = self._log.exists() and self._log.stat().st_size > LONGEST_LOG
        return stack.enter_context(self._log.open("wb" if long else "ab")).fileno()

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(self._patience):
                await process.wait()
        except TimeoutError:
            say(f"the {self.name} did not end within {self._patience:g} s: killed")
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def _where(self) -> str:
        return f", see {self._log}" if self._log else ""


@asynccontextmanager
async def kept(children: Iterable[Child]) -> AsyncIterator[list[asyncio.Task[int]]]:
    """Keep children running for as long as the block; all have ended after it."""
    tasks = [asyncio.create_task(child.keep(), name=child.name) for child in children]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def all_ended(tasks: Iterable[asyncio.Task[int]]) -> int:
    """Return the largest exit code once every child has ended for good.

    When this is cancelled the children go on; ``kept`` ends them in their order.

    Raises:
        ChildEnded: one of them can never run.
    """
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    return max(task.result() for task in done)


def _told(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
