"""The demo's processes: real commands of ours, each with a log, none outliving us."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from broker.cli.children import LEASH
from schemas import siblings

PATIENCE = 10.0
"""Seconds that a process has to end in order."""


class Member:
    """One process of the crew."""

    def __init__(
        self, name: str, process: asyncio.subprocess.Process, log: Path, leash: int
    ) -> None:
        """``leash`` is our end of a pipe; the process ends itself once that closes."""
        self.name = name
        self.pid = process.pid
        self.killed = False
        self._process = process
        self._log = log
        self._leash = leash

    @property
    def code(self) -> int | None:
        """How the process ended; None while it runs."""
        return self._process.returncode

    async def kill(self) -> None:
        """Send SIGKILL, which leaves the process no moment for anything."""
        self.killed = True
        self._process.kill()
        await self._process.wait()

    async def stop(self) -> None:
        """Let the process end in order; it is dead afterwards."""
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(PATIENCE):
                await self._process.wait()
        except BaseException:  # too late, or a second Ctrl-C
            with suppress(ProcessLookupError):
                self._process.kill()
            raise
        finally:
            await self._process.wait()
            os.close(self._leash)

    def lines(self) -> list[str]:
        """What the process has said so far."""
        return self._log.read_text(errors="replace").splitlines()

    def log(self) -> list[dict[str, object]]:
        """The lines that are log entries."""
        entries = []
        for line in self.lines():
            with suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict):
                    entries.append(entry)
        return entries


class Crew:
    """All processes that the demo started."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        """They run in ``directory``; ``environment`` holds their settings alone."""
        self.root = str(Path(siblings.__file__).parent.parent)
        """Where our packages are."""
        self._directory = directory
        self._environment = {**_inherited(self.root), **environment}
        self.members: dict[str, Member] = {}

    async def start(self, name: str, *arguments: str) -> Member:
        """Start ``bgfetch ARGUMENTS``; its log is ``<name>.log``.

        It has a session of its own, so that Ctrl-C reaches the demo alone, and a leash
        that ends it when the demo dies (see ``broker.cli.children``).
        """
        log = self._directory / f"{name}.log"
        theirs, ours = os.pipe()
        try:
            with log.open("wb") as output:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-P", "-m", "workers.cli", *arguments),
                    cwd=self._directory,
                    env={**self._environment, LEASH: str(theirs)},
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=(theirs,),
                    start_new_session=True,
                )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        self.members[name] = Member(name, process, log, ours)
        return self.members[name]

    def lost(self) -> str | None:
        """Tell of a process that ended though nobody asked it to."""
        for member in self.members.values():
            if member.code is not None and not member.killed:
                return f"{member.name} ended with exit code {member.code}"
        return None

    async def stop(self) -> None:
        """End every process, all at once."""
        stops = [member.stop() for member in self.members.values()]
        await asyncio.gather(*stops, return_exceptions=True)

    def last_words(self, count: int) -> Sequence[str]:
        """The last lines of each process, for when something went wrong."""
        return [
            f"{member.name}: {_clipped(line)}"
            for member in self.members.values()
            for line in member.lines()[-count:]
        ]


def _inherited(root: str) -> dict[str, str]:
    """Our environment without settings: the demo is the same on every machine."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("BGFETCH_") and name != "REDIS_URL"
    }
    before = os.environ.get("PYTHONPATH")
    return kept | {"PYTHONPATH": f"{root}{os.pathsep}{before}" if before else root}


def _clipped(line: str) -> str:
    """Beginning and end of a line: the end of a traceback says what went wrong."""
    return line if len(line) <= 400 else f"{line[:160]} … {line[-240:]}"
