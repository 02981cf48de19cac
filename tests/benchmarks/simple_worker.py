"""RQ as it comes, one job a URL: a stock SimpleWorker that runs a bare download.

As a program it is that worker: ``python -m tests.benchmarks.simple_worker REDIS_URL``.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pycurl
from redis import Redis
from rq import Queue, SimpleWorker, get_current_job

from broker.embedded import EmbeddedServer
from tests.benchmarks.measure import BenchmarkError, Sample, cpu_seconds
from tests.benchmarks.origin import Origin

_QUEUE, _DONE = "simple-worker", "simple-worker:done"
_PATIENCE = 600  # s for one run
_REPOSITORY = Path(__file__).parents[2]


def download(url: str, path: str) -> None:
    """The job: one download, and no bookkeeping."""
    with open(path, "wb") as file:
        handle = _handle()
        handle.setopt(pycurl.URL, url)
        handle.setopt(pycurl.WRITEDATA, file)
        handle.perform()


@cache
def _handle() -> pycurl.Curl:
    return pycurl.Curl()


def tell() -> None:
    """The last job: tell that all before it are done."""
    job = get_current_job()
    assert job is not None
    job.connection.rpush(_DONE, 1)


class RQ:
    """A producer for the worker, whose clock stops when the last job has run."""

    name = "simple-worker"

    def __init__(
        self, origin: Origin, directory: Path, server: EmbeddedServer, worker: int
    ) -> None:
        self._origin = origin
        self._target = directory / self.name
        self._server, self._worker = server, worker

    def run(self) -> Sample:
        """Download everything, and delete it again off the clock."""
        self._target.mkdir()
        used = self._cpu()
        began = time.perf_counter()
        with Redis.from_url(self._server.url, socket_timeout=None) as connection:
            self._enqueue(connection)
            done = connection.blpop([_DONE], timeout=_PATIENCE)
        sample = Sample(time.perf_counter() - began, self._cpu() - used)
        try:
            if done is None:
                raise BenchmarkError(f"{self.name} was not done in {_PATIENCE} s")
            self._origin.check(self._target)
        finally:
            shutil.rmtree(self._target)
        return sample

    def _enqueue(self, connection: Redis) -> None:
        queue = Queue(_QUEUE, connection=connection)
        jobs = [
            Queue.prepare_data(
                download,
                (url, str(self._target / url.rpartition("/")[2])),
                result_ttl=0,
            )
            for url in self._origin.urls
        ]
        queue.enqueue_many([*jobs, Queue.prepare_data(tell, result_ttl=0)])

    def _cpu(self) -> float:
        others = cpu_seconds(self._worker) + cpu_seconds(self._server.pid)
        return time.process_time() + others


@contextmanager
def serve(directory: Path, origin: Origin, server: EmbeddedServer) -> Iterator[RQ]:
    """Start the worker; it ends with the context."""
    with open(directory / "simple-worker.log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.simple_worker", server.url],
            cwd=_REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            yield RQ(origin, directory, server, process.pid)
        finally:
            process.kill()
            process.wait()


def main(url: str) -> None:
    """Run the worker until it is killed; with its Redis it ends by itself."""
    with Redis.from_url(url) as connection:
        worker = SimpleWorker([_QUEUE], connection=connection)
        worker.work(logging_level="WARNING")


if __name__ == "__main__":
    main(*sys.argv[1:])
