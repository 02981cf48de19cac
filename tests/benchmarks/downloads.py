"""``bench downloads``: files from nginx on loopback to disk, beside aria2 and curl."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from broker.embedded import find_server
from tests.benchmarks import origin, report, service
from tests.benchmarks.limit import Limit
from tests.benchmarks.measure import MIB, BenchmarkError, Sample, interleave
from tests.benchmarks.peers import AT_ONCE, find_peers

QUICK = 0.1
ROUNDS, QUICK_ROUNDS = 5, 3
_SHARED_MEMORY = Path("/dev/shm")
_SPARE = 512 * MIB  # for Redis, and for whoever else uses the machine


@dataclass(frozen=True, slots=True)
class Case:
    """So many files of so many bytes."""

    name: str
    unit: str
    count: int
    size: int

    def scaled(self, factor: float) -> Case:
        """The same case with less to do."""
        if self.unit == "files/s":
            return replace(self, count=max(1, round(self.count * factor)))
        return replace(self, size=max(1, round(self.size * factor)))

    def rate(self, sample: Sample) -> float:
        """What a run of this case achieved, in its unit."""
        if self.unit == "files/s":
            return self.count / sample.wall
        return self.count * self.size / MIB / sample.wall


CASES = (
    Case("small-files", "files/s", 5000, 4096),
    Case("large-files", "MiB/s", 10, 100 * MIB),
    Case("one-large-file", "MiB/s", 1, 1024 * MIB),
)


def main(arguments: Sequence[str]) -> int:
    """Run the cases and print their figures; return the exit code."""
    options = _parse(arguments)
    console = Console(soft_wrap=True)
    done = []
    for case in CASES:
        if options.case in (None, case.name):
            try:
                figures = measure(case.scaled(options.scale), options.rounds)
            except BenchmarkError as error:
                sys.stderr.write(f"bench downloads: {case.name}: {error}\n")
                return 1
            done.append(figures)
            if options.json:
                report.print_json(console, figures)
    if not options.json:
        report.print_table(console, done)
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("bench downloads", description=__doc__)
    names = [case.name for case in CASES]
    parser.add_argument("--case", choices=names, help="this case alone")
    parser.add_argument("--json", action="store_true", help="one object for each case")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    parser.add_argument("--rounds", type=int, help="runs of each, beside a warm-up")
    parser.add_argument("--scale", type=float, help="that share of the work")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    options.scale = options.scale or (QUICK if options.quick else 1.0)
    return options


def measure(case: Case, rounds: int) -> report.Figures:
    """Let us and the installed peers do the work of a case in turn.

    Raises:
        BenchmarkError: somebody did not do it.
    """
    with (
        _workspace(case) as directory,
        origin.serve(directory / "origin", case.count, case.size) as files,
        service.serve(directory, files) as ours,
    ):
        peers, missing = find_peers(files, directory)
        limit = Limit(files, directory)
        kind = _file_system(directory)
        medians = interleave([ours, *peers, limit], rounds)
        peak = ours.peak_mib
    rates = {name: case.rate(sample) for name, sample in medians.items()}
    shown = [ours.name, *(peer.name for peer in peers)]
    return report.Figures(
        case=case.name,
        unit=case.unit,
        ours=rates[ours.name],
        peers={peer.name: rates[peer.name] for peer in peers},
        limits={"libcurl without redis": rates[limit.name]},
        rss_mib=peak,
        cpu_seconds={name: medians[name].cpu for name in shown},
        note=_note(case, kind, [peer.name for peer in peers], missing),
    )


@contextmanager
def _workspace(case: Case) -> Iterator[Path]:
    """A directory for origin, targets and Redis: in memory, if there is room."""
    needed = 2 * case.count * max(case.size, 4096) + _SPARE
    shared = _SHARED_MEMORY.is_dir() and os.access(_SHARED_MEMORY, os.W_OK)
    roomy = shared and min(_free(_SHARED_MEMORY), _free_memory()) > needed
    place = _SHARED_MEMORY if roomy else None
    with tempfile.TemporaryDirectory(prefix="bgfetch-bench-", dir=place) as path:
        if _free(Path(path)) < needed:
            raise BenchmarkError(f"{needed / MIB:,.0f} MiB are needed in {path}")
        yield Path(path)


def _free(directory: Path) -> int:
    return shutil.disk_usage(directory).free


def _free_memory() -> int:
    try:
        told = Path("/proc/meminfo").read_text()
    except FileNotFoundError:  # no such place, and no /dev/shm either
        return 0
    return int(told.partition("MemAvailable:")[2].split()[0]) * 1024


def _file_system(directory: Path) -> str:
    """Name the kind of file system, or call it a disk where nobody tells."""
    try:
        mounts = Path("/proc/mounts").read_text().splitlines()
    except FileNotFoundError:
        return "disk"
    rows = [mount.split() for mount in mounts]
    around = {row[1]: row[2] for row in rows if directory.is_relative_to(row[1])}
    return around[max(around, key=len)]


def _note(case: Case, kind: str, peers: Sequence[str], missing: Sequence[str]) -> str:
    server = find_server()
    size = f"{case.size / MIB:.4g} MiB" if case.size >= MIB else f"{case.size} bytes"
    sentences = [
        f"{case.count} x {size} to {kind}, {AT_ONCE} at once",
        "no fsync on any side",
        f"ours: sha256 of every file, {server.kind} {server.version} with AOF everysec",
    ]
    if peers:
        sentences.append(f"{', '.join(peers)}: no digest, process start included")
    if missing:
        sentences.append(f"not installed and left out: {', '.join(missing)}")
    return "; ".join(sentences)
