"""``bench gateway``: what readers of server-sent events cost one gateway process."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import socket
import sys
import time
from collections.abc import Callable, Sequence

from rich.console import Console
from typing_extensions import override

from broker.registration import BackgroundFetchRegistration
from tests.benchmarks import report
from tests.benchmarks.listeners import SCOPE
from tests.benchmarks.measure import BenchmarkError, cpu_seconds, peak_mib
from tests.benchmarks.stage import Stage, redis_name, stage, wait_for

QUICK = 0.1
READERS, FEWER = 2000, 10
"""They are compared with so many times fewer."""
CHANGES, FEWEST, PAUSE = 50, 5, 0.25
"""Changes of a fetch, and the seconds between them, as its progress is announced."""
MOST_MIB = 150
_PATIENCE = 120.0  # s
_AT_ONCE = 100
"""Readers that connect at a time."""
_KEPT = 16 * 1024
"""Bytes of a stream's end that are kept to look at."""
_PROGRESS = re.compile(rb"event: progress\ndata: (.*)\n")


class Reader(asyncio.Protocol):
    """A connection that reads a stream and does little else."""

    def __init__(self, changed: Callable[[], object]) -> None:
        self._changed = changed
        self.end = b""
        self.messages = 0

    @override
    def data_received(self, data: bytes) -> None:
        """Keep the end."""
        self.messages += data.count(b"event: ")
        self.end = (self.end + data)[-_KEPT:]
        self._changed()

    def has(self, text: bytes) -> bool:
        """Whether this has arrived."""
        return text in self.end

    @property
    def last(self) -> dict[str, object]:
        """The last state that it was told."""
        told = _PROGRESS.findall(self.end)
        return dict(json.loads(told[-1])) if told else {}


class Readers:
    """Many readers of one scope."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._changed = asyncio.Event()
        self.readers: list[Reader] = []

    async def grow(self, number: int) -> None:
        """Connect until there are so many; each has had its first message."""
        loop = asyncio.get_running_loop()
        path = f"/api/v1/scopes/{SCOPE}/events"
        ask = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        while len(self.readers) < number:
            had = len(self.readers)
            for _ in range(min(_AT_ONCE, number - had)):
                transport, reader = await loop.create_connection(
                    lambda: Reader(self._changed.set), "127.0.0.1", self._port
                )
                transport.write(ask)
                self.readers.append(reader)
            await self.all_have(b"event: progress", had)

    async def all_have(self, text: bytes, after: int = 0) -> None:
        """Wait until each has been told this, beside the first so many."""
        missing = self.readers[after:]
        async with asyncio.timeout(_PATIENCE):
            while missing := [one for one in missing if not one.has(text)]:
                self._changed.clear()
                await self._changed.wait()


def measure(scale: float) -> report.Figures:
    """Let some read a fetch that changes, then all; measure what that costs.

    Raises:
        BenchmarkError: a reader has not seen the last state.
    """
    many = max(FEWER, round(READERS * scale))
    few = many // FEWER
    changes = max(FEWEST, min(CHANGES, round(CHANGES * scale)))
    port = _free_port()
    serve = ("-m", "workers.cli", "serve", "--port", str(port))
    with stage() as it, it.program(*serve, "--log-level", "warning") as process:
        wait_for(lambda: _answers(port), "the gateway")
        readers = Readers(port)
        costs, took = {}, 0.0
        for number in (few, many):
            began = it.manager.fetch(f"ep-{number}", "https://origin.example/file")
            fetch = it.loop.run(began)
            it.loop.run(readers.grow(number))
            costs[number], took = it.loop.run(
                _tell(it, process, readers, fetch, changes)
            )
        peak = peak_mib(process)
    return report.Figures(
        case="readers",
        unit="µs CPU/message",
        ours=costs[many],
        peers={f"{few} readers": costs[few]},
        rss_mib=peak,
        cpu_seconds={
            "ours": costs[many] * many * changes / 1e6,
            f"{few} readers": costs[few] * few * changes / 1e6,
        },
        note=(
            f"{many} readers of one scope in one gateway process, and a fetch that "
            f"changes {1 / PAUSE:g} times a second: the gateway's CPU for each change "
            f"and reader, beside {few} readers; all were told the last state, the last "
            f"of them {took * 1000:.0f} ms after it was asked for; memory is the "
            f"gateway's, aim: less than {MOST_MIB} MiB; {redis_name()}"
        ),
        less_is_more=True,
    )


async def _tell(
    it: Stage,
    process: int,
    readers: Readers,
    fetch: BackgroundFetchRegistration,
    changes: int,
) -> tuple[float, float]:
    """µs of CPU for each change and reader; seconds until all know the last state."""
    used = cpu_seconds(process)
    for number in range(changes):
        await fetch.present(title=f"change {number}")
        await asyncio.sleep(PAUSE)
    began = time.perf_counter()
    await fetch.abort()
    await readers.all_have(b'"event":"backgroundfetchabort"')
    took = time.perf_counter() - began
    spent = cpu_seconds(process) - used
    for reader in readers.readers:
        last = reader.last
        if (last.get("uid"), last.get("failureReason")) != (fetch.uid, "aborted"):
            raise BenchmarkError(f"a reader was told {last} at last")
        reader.end = b""
    return spent / (changes + 1) / len(readers.readers) * 1e6, took


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def main(arguments: Sequence[str]) -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser("bench gateway", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one object")
    parser.add_argument("--quick", action="store_true", help="a tenth of the readers")
    parser.add_argument("--scale", type=float, help="that share of the readers")
    options = parser.parse_args(arguments)
    console = Console(soft_wrap=True)
    try:
        figures = measure(options.scale or (QUICK if options.quick else 1.0))
    except (BenchmarkError, TimeoutError) as error:
        told = str(error) or "a reader was told nothing"
        sys.stderr.write(f"bench gateway: {told}\n")
        return 1
    if options.json:
        report.print_json(console, figures)
    else:
        report.print_table(console, [figures])
    return 0
