"""What the processes of a torture write down, each into a file of its own.

A line is one write, so that a process that is killed leaves whole lines. Times are
those of the clock that all processes of this machine share.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BEAT = 0.05


class History:
    """The file of one process; may be written from any thread."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, what: str, *words: object) -> None:
        """Append one line, which begins with its time."""
        line = " ".join(map(str, (time.monotonic(), what, *words)))
        os.write(self._file, f"{line}\n".encode())

    async def watch(self, lease: float) -> None:
        """Tell when the event loop got too little time to keep a lease, for ever."""
        last = time.monotonic()
        while True:
            await asyncio.sleep(BEAT)
            now = time.monotonic()
            if now - last > lease / 4:
                self.write("fault", "starved", os.getpid(), last, now + lease)
            last = now


class Progress:
    """How much all processes have published and handled, by what they wrote so far.

    What Redis counts for a group is not in its append-only file, and wrong after it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._read: dict[Path, int] = {}
        self.published = 0
        self.handled = 0
        self.begun = Counter[int]()
        """Handlers of each process that have begun, and not ended."""

    def look(self) -> None:
        """Count what was written since the last look."""
        for path in self._directory.glob("*.history"):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                lines = file.read()
            lines = lines[: lines.rfind(b"\n") + 1]
            self._read[path] = self._read.get(path, 0) + len(lines)
            self.published += lines.count(b" answer ") - lines.count(b" -\n")
            done = lines.count(b" done ")
            self.handled += done
            ended = done + lines.count(b" raised ")
            self.begun[int(path.stem)] += lines.count(b" start ") - ended


def has_ended(directory: Path, process: int, delivery: str) -> bool:
    """Whether a process was told what became of its attempt at a delivery."""
    told = (directory / f"{process}.history").read_text()
    return f" acked {delivery} " in told or f" lost {delivery} " in told


@dataclass(frozen=True, slots=True)
class Line:
    """One line, and the process that wrote it."""

    process: int
    time: float
    what: str
    words: tuple[str, ...]


def read(directory: Path) -> Iterator[Line]:
    """Read all files there, each named after its process: ``<pid>.history``."""
    for path in sorted(directory.glob("*.history")):
        process = int(path.stem)
        for line in path.read_text().splitlines():
            told, what, *words = line.split(" ")
            yield Line(process, float(told), what, tuple(words))
