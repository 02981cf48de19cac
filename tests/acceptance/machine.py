"""A person's machine: real commands, with an environment and a data directory alone."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[2]
DEADLINE = 60.0
"""Seconds for anything that should come to pass."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What one command came to."""

    code: int
    out: str
    err: str


class Running:
    """A command under way, and what it has said so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.process = process
        self._said: queue.Queue[str | None] = queue.Queue()
        self._lines: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=(stream,))
            for stream in (process.stdout, process.stderr)
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self._said.put(line.rstrip("\n"))
        self._said.put(None)

    @property
    def text(self) -> str:
        """All that was said and waited for."""
        return "\n".join(self._lines)

    def says(self, pattern: str) -> re.Match[str]:
        """Wait for a line with ``pattern`` on stdout or stderr; return the match."""
        until, ends = time.monotonic() + DEADLINE, 0
        while ends < len(self._readers):
            try:
                line = self._said.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if line is None:
                ends += 1
                continue
            self._lines.append(line)
            if match := re.search(pattern, line):
                return match
        raise AssertionError(f"never said {pattern!r}:\n{self.text}")

    def interrupt(self) -> None:
        """Press Ctrl-C: the signal goes to the whole process group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def ends(self) -> int:
        """Wait for the end; return the exit code."""
        code = self.process.wait(DEADLINE)
        for reader in self._readers:
            reader.join()
        while not self._said.empty():
            self._lines += filter(None, [self._said.get()])
        return code

    def close(self) -> None:
        """Kill what is left."""
        self.process.kill()
        self.ends()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


class Machine:
    """Runs ``bgfetch`` commands; ``home`` has room for everything they keep."""

    def __init__(self, home: Path, environment: Mapping[str, str]) -> None:
        self.home = home
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("BGFETCH_") and name != "REDIS_URL"
        }
        self.environment = {
            **kept,
            "HOME": str(home),
            "XDG_DATA_HOME": str(home / "data"),
            "PYTHONPATH": str(ROOT),
            "BGFETCH_LEASE": "2",
            **environment,
        }

    def _popen(self, arguments: tuple[str, ...]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "workers.cli", *arguments],
            cwd=self.home,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str) -> Ended:
        """Run one command to its end."""
        with self._popen(arguments) as process:
            out, err = process.communicate(timeout=DEADLINE)
            return Ended(process.returncode, out, err)

    @contextmanager
    def running(self, *arguments: str) -> Iterator[Running]:
        """Start one command; it is killed at the end of the block if it still runs."""
        running = Running(self._popen(arguments))
        try:
            yield running
        finally:
            running.close()

    def processes(self, word: str = "") -> list[int]:
        """The processes that this machine's commands have left, by their environment.

        With a ``word`` only those with this argument.
        """
        mark = f"XDG_DATA_HOME={self.home / 'data'}".encode()
        found = []
        for place in Path("/proc").iterdir():
            try:
                environment = (place / "environ").read_bytes().split(b"\0")
                command = (place / "cmdline").read_bytes().split(b"\0")
            except (OSError, ValueError):  # gone meanwhile, or another user's
                continue
            if mark in environment and (not word or word.encode() in command):
                found.append(int(place.name))
        return found

    def all_end(self) -> bool:
        """Wait for every process that is left; False if one does not end."""
        until = time.monotonic() + DEADLINE
        while self.processes():
            if time.monotonic() > until:
                return False
            os.sched_yield()
        return True
