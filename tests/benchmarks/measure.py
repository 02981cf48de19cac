"""Measuring contenders in turn: wall time, CPU seconds, memory (design, figures)."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Protocol

MIB = 1024 * 1024
REDIS_URL = "BGFETCH_REDIS_URL"
"""Where programs that a benchmark starts find its Redis, ours and others'."""
_TICKS = os.sysconf("SC_CLK_TCK")
# Debian keeps servers where an ordinary user's PATH does not look.
_MORE_PLACES = ("/usr/sbin", "/usr/local/sbin")


class BenchmarkError(Exception):
    """A run did not do its work, so its time says nothing."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One run: seconds on the clock, and CPU seconds of everybody at work."""

    wall: float
    cpu: float


class Contender(Protocol):
    """Somebody who does the work of a case, again and again."""

    name: str

    def run(self) -> Sample:
        """Do the work once.

        Raises:
            BenchmarkError: it was not done, or not all of it.
        """


def interleave(contenders: Sequence[Contender], rounds: int) -> dict[str, Sample]:
    """Let the contenders run in turn (A B A B …) and return each one's medians.

    A first round warms up connections, caches and memory, and does not count.
    """
    samples: dict[str, list[Sample]] = {each.name: [] for each in contenders}
    for round_ in range(rounds + 1):
        for contender in contenders:
            sample = contender.run()
            if round_:
                samples[contender.name].append(sample)
    return {name: _medians(each) for name, each in samples.items()}


def _medians(samples: Sequence[Sample]) -> Sample:
    return Sample(
        median(sample.wall for sample in samples),
        median(sample.cpu for sample in samples),
    )


def run_program(command: Sequence[str]) -> Sample:
    """Run a program to its end, from its start on the clock.

    Raises:
        BenchmarkError: it failed; the message has the end of what it said.
    """
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=_without_proxies(os.environ),
    )
    assert process.stderr is not None
    with process.stderr as stderr:
        said = stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        last = said.decode(errors="replace").strip()[-300:]
        raise BenchmarkError(f"{command[0]} ended with {process.returncode}: {last}")
    return Sample(wall, usage.ru_utime + usage.ru_stime)


def _without_proxies(variables: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in variables.items()
        if not name.lower().endswith("_proxy")
    }


def find_program(name: str) -> str | None:
    """Return the path of an installed program, or None."""
    places = os.pathsep.join((os.environ.get("PATH", os.defpath), *_MORE_PLACES))
    return shutil.which(name, path=places)


def cpu_seconds(process_id: int) -> float:
    """CPU seconds that a running process has used, all its threads together."""
    try:
        stat = Path(f"/proc/{process_id}/stat").read_text()
    except FileNotFoundError:  # macOS
        return _clock_to_seconds(_ask_ps("time", process_id))
    # The name, in brackets, may hold blanks; utime and stime are 14 and 15 in all.
    user, system = stat.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / _TICKS


def with_children(process_id: int) -> list[int]:
    """A running process and all below it, as a worker that forks has some."""
    found = [process_id]
    for each in found:
        found += _children(each)
    return found


def _children(process_id: int) -> list[int]:
    lists = list(Path(f"/proc/{process_id}/task").glob("*/children"))
    if lists:
        return [int(child) for path in lists for child in path.read_text().split()]
    told = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split() for line in told.splitlines()]
    return [int(child) for child, parent in rows if int(parent) == process_id]


def peak_mib(process_id: int) -> float:
    """The most memory that a running process had resident; now, where unknown."""
    try:
        status = Path(f"/proc/{process_id}/status").read_text()
    except FileNotFoundError:  # macOS
        return int(_ask_ps("rss", process_id)) / 1024
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _ask_ps(column: str, process_id: int) -> str:
    command = ["ps", "-o", f"{column}=", "-p", str(process_id)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _clock_to_seconds(text: str) -> float:
    """Read ``[[days-]hours:]minutes:seconds``."""
    days, _, clock = text.strip().rpartition("-")
    seconds = 0.0
    for part in clock.split(":"):
        seconds = 60 * seconds + float(part)
    return 86_400 * int(days or 0) + seconds
