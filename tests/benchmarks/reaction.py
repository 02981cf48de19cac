"""``settle-to-handler``: how soon a handler starts, beside a bare stream."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from statistics import median, quantiles
from typing import Any

from redis import Redis

from broker.keys import ScopeKeys
from broker.lanes import LaneHold, Opened, RecordReport
from schemas.records import RecordResult, RecordState
from tests.benchmarks.listeners import GROUP, SCOPE, STARTED, STREAM
from tests.benchmarks.measure import BenchmarkError, cpu_seconds, peak_mib
from tests.benchmarks.queues import is_drained
from tests.benchmarks.report import Figures
from tests.benchmarks.stage import Stage, redis_name, stage, wait_for

_SETTLES = 1000
_WARM_UP = 50
_AIM = {"median": 3.0, "p99": 5.0}
_PATIENCE = 60  # s
BARE = "bare XADD"


def measure(scale: float, rounds: int) -> list[Figures]:
    """Settle a fetch, append an entry, settle a fetch, …, one at a time.

    Raises:
        BenchmarkError: no handler started.
    """
    count = max(2, round(_SETTLES * scale))
    ours: list[float] = []
    theirs: list[float] = []
    with stage() as it, it.subscriber("timed") as process, it.bare("timed") as reader:
        wait_for(lambda: it.redis.exists(STREAM) == 1, "the bare reader")
        wait_for(lambda: _has_group(it), "the subscriber")
        for _ in range(_WARM_UP):
            _settle(it)
            _append(it)
        used = [cpu_seconds(process), cpu_seconds(reader)]
        for _ in range(count):
            ours.append(_settle(it))
            theirs.append(_append(it))
        spent = [cpu_seconds(process) - used[0], cpu_seconds(reader) - used[1]]
        peak = peak_mib(process)
    return [
        Figures(
            case=f"settle-to-handler-{name}",
            unit="µs",
            ours=of(ours),
            peers={BARE: of(theirs)},
            aim={BARE: round(1 / _AIM[name], 2)},
            rss_mib=peak,
            cpu_seconds={"ours": spent[0], BARE: spent[1]},
            note=(
                f"{count} settles of a fetch, each from the worker's call until its "
                "handler starts, in turn with XADD until a blocked XREADGROUP returns; "
                f"one at a time; {redis_name()}; CPU of the reading processes"
            ),
            less_is_more=True,
        )
        for name, of in (("median", median), ("p99", _p99))
    ]


def _p99(values: list[float]) -> float:
    return quantiles(values, n=100)[98]


def _has_group(it: Stage) -> bool:
    return it.redis.exists(ScopeKeys(SCOPE).events) == 1


def _settle(it: Stage) -> float:
    """Register a fetch, take its only record as a worker does, report it as done."""
    hold = it.loop.run(_take(it))
    report = RecordReport(0, 0, result=RecordResult.SUCCESS, state=RecordState())

    def settle() -> None:
        it.loop.run(hold.report([report], want=0, held=0))

    took = _until_started(it.redis, settle)
    stream = ScopeKeys(SCOPE).events
    wait_for(lambda: is_drained(it.redis, stream, "default"), "an acknowledgement")
    return took


async def _take(it: Stage) -> LaneHold:
    manager = it.manager
    url = "https://files.example/1"
    registration = await manager.fetch(f"fetch-{secrets.token_hex(8)}", url)
    keys = ScopeKeys(SCOPE).fetch(registration.uid)
    hold = LaneHold(manager.connection, manager.settings, keys)
    opened = await hold.take(f"{registration.uid}-0-1", 1)
    if not isinstance(opened, Opened):
        raise BenchmarkError(f"the fetch could not be worked on: {opened}")
    return hold


def _append(it: Stage) -> float:
    took = _until_started(
        it.redis, lambda: it.redis.xadd(STREAM, {"message": b"x" * 500})
    )
    wait_for(lambda: is_drained(it.redis, STREAM, GROUP), "the bare reader")
    return took


def _until_started(redis: Redis, publish: Callable[[], Any]) -> float:
    """Microseconds from the call until whoever handles it started."""
    began = time.monotonic_ns()
    publish()
    reply: Any = redis.blpop([STARTED], timeout=_PATIENCE)
    if reply is None:
        raise BenchmarkError(f"no handler started within {_PATIENCE} s")
    return (int(reply[1]) - began) / 1000
