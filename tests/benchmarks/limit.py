"""How fast the transport alone is: the same libcurl loop, without Redis or digests.

As a program it downloads the URLs that a file lists into a directory, and prints the
seconds it took: ``python -m tests.benchmarks.limit LIST DIRECTORY``.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from schemas.addresses import AddressPolicy
from schemas.records import ResponseHead
from tests.benchmarks.measure import BenchmarkError, Sample
from tests.benchmarks.origin import Origin
from tests.benchmarks.peers import AT_ONCE
from workers.transport import Outgoing, Transport, TransportLimits

_REPOSITORY = Path(__file__).parents[2]
_BUFFER = 512 * 1024


class Limit:
    """The transport in a process of its own, downloading all files of an origin."""

    name = "libcurl without redis"

    def __init__(self, origin: Origin, directory: Path) -> None:
        self._origin = origin
        self._target = directory / "limit"
        self._list = directory / "limit.list"

    def run(self) -> Sample:
        """Download everything, and delete it again off the clock."""
        self._target.mkdir()
        self._list.write_text("\n".join(self._origin.urls))
        command = [sys.executable, "-m", "tests.benchmarks.limit"]
        try:
            ended = subprocess.run(
                [*command, str(self._list), str(self._target)],
                cwd=_REPOSITORY,
                capture_output=True,
                text=True,
                check=False,
            )
            if ended.returncode:
                raise BenchmarkError(f"the transport failed: {ended.stderr[-300:]}")
            self._origin.check(self._target)
        finally:
            shutil.rmtree(self._target)
        return Sample(**json.loads(ended.stdout))


class _File:
    def __init__(self, path: str) -> None:
        self._file = open(path, "wb", buffering=_BUFFER)  # noqa: SIM115 - closed below

    def head(self, head: ResponseHead) -> bool:
        return head.status == 200

    def write(self, chunk: bytes) -> bool:
        self._file.write(chunk)
        return True

    def close(self) -> None:
        self._file.close()


async def _download(urls: Iterator[str], target: str, transport: Transport) -> None:
    for url in urls:
        file = _File(os.path.join(target, url.rpartition("/")[2]))
        try:
            await transport.exchange(Outgoing("GET", url), file)
        finally:
            file.close()


async def _download_all(urls: list[str], target: str) -> None:
    policy = AddressPolicy.parse("loopback")
    async with Transport(TransportLimits(), policy) as transport:
        remaining = iter(urls)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(AT_ONCE, len(urls))):
                tasks.create_task(_download(remaining, target, transport))


def main(listed: str, target: str) -> None:
    """Download, and print a ``Sample`` as JSON."""
    urls = Path(listed).read_text().split()
    used, began = time.process_time(), time.perf_counter()
    asyncio.run(_download_all(urls, target))
    wall, cpu = time.perf_counter() - began, time.process_time() - used
    json.dump({"wall": wall, "cpu": cpu}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
