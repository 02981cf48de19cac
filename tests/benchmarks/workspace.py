"""Where a case's files live while it is measured: in memory, if there is room."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.cases import Case
from tests.benchmarks.measure import MIB, BenchmarkError

_SHARED_MEMORY = Path("/dev/shm")
_SPARE = 512 * MIB  # for Redis, and for whoever else uses the machine


@contextmanager
def workspace(case: Case) -> Iterator[Path]:
    """A directory for origin, targets and Redis, gone afterwards.

    Raises:
        BenchmarkError: there is no room for the files of the case.
    """
    needed = 2 * case.count * max(case.size, 4096) + _SPARE
    shared = _SHARED_MEMORY.is_dir() and os.access(_SHARED_MEMORY, os.W_OK)
    roomy = shared and min(_free(_SHARED_MEMORY), _free_memory()) > needed
    place = _SHARED_MEMORY if roomy else None
    with tempfile.TemporaryDirectory(prefix="bgfetch-bench-", dir=place) as path:
        if _free(Path(path)) < needed:
            raise BenchmarkError(f"{needed / MIB:,.0f} MiB are needed in {path}")
        yield Path(path)


def file_system(directory: Path) -> str:
    """Name the kind of file system, or call it a disk where nobody tells."""
    try:
        mounts = Path("/proc/mounts").read_text().splitlines()
    except FileNotFoundError:
        return "disk"
    rows = [mount.split() for mount in mounts]
    around = {row[1]: row[2] for row in rows if directory.is_relative_to(row[1])}
    return around[max(around, key=len)]


def _free(directory: Path) -> int:
    return shutil.disk_usage(directory).free


def _free_memory() -> int:
    try:
        told = Path("/proc/meminfo").read_text()
    except FileNotFoundError:  # no such place, and no /dev/shm either
        return 0
    return int(told.partition("MemAvailable:")[2].split()[0]) * 1024
