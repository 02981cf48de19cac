"""``waiting-handlers``: what it costs to keep deliveries whose handlers wait."""

from __future__ import annotations

import time

from redis import Redis

from broker.keys import ScopeKeys
from tests.benchmarks.listeners import SCOPE
from tests.benchmarks.measure import cpu_seconds, peak_mib
from tests.benchmarks.queues import FETCHES, click_all, is_drained, register
from tests.benchmarks.report import Figures
from tests.benchmarks.stage import Stage, redis_name, stage, wait_for

_HANDLERS = 10_000
_FEWER = 10
"""They are compared with so many times fewer."""
_LEASE = 3.0  # s: they are extended three times in that time
_MOST_MIB = 300
_TICK = 0.01 / 3  # s: less cannot be told


def measure(scale: float, rounds: int) -> list[Figures]:
    """Let some handlers wait, then all; measure a while of each.

    Raises:
        BenchmarkError: they were not all begun.
    """
    many = max(_FEWER, round(_HANDLERS * scale))
    few = many // _FEWER
    limits = {"BGFETCH_HANDLERS": str(many), "BGFETCH_LEASE": str(_LEASE)}
    limits["BGFETCH_GRACE"] = "0"
    with stage() as it, it.subscriber("waiting", **limits) as process:
        fetches = it.loop.run(register(it.manager, FETCHES))
        events = ScopeKeys(SCOPE).events
        wait_for(lambda: is_drained(it.redis, events, "default"), "the subscriber")
        idle = _extending(it, process, rounds)
        costs = []
        for count, held in ((few, 0), (many, few)):
            it.loop.run(click_all(fetches, count - held))
            wait_for(lambda: _held(it.redis) == count, f"{count} handlers")  # noqa: B023
            spent = _extending(it, process, rounds) - idle
            costs.append(max(spent, _TICK) / count * 1e6)
        peak = peak_mib(process)
    return [
        Figures(
            case="waiting-handlers",
            unit="µs CPU/extension",
            ours=costs[1],
            peers={f"{few} handlers": costs[0]},
            rss_mib=peak,
            cpu_seconds={
                "ours": costs[1] * many / 1e6,
                f"{few} handlers": costs[0] * few / 1e6,
            },
            note=(
                f"{many} handlers waiting in one process: CPU of subscriber and Redis "
                f"for each delivery that is extended, beside {few}; a ratio of 1 is "
                f"flat; aim: less than {_MOST_MIB} MiB; {redis_name()}"
            ),
            less_is_more=True,
        )
    ]


def _held(redis: Redis) -> int:
    held: int = redis.zcard(ScopeKeys(SCOPE).subscriber("default").leases)
    return held


def _extending(it: Stage, process: int, rounds: int) -> float:
    """CPU seconds in the time of one extension of everything that is held."""
    used = cpu_seconds(process) + cpu_seconds(it.server.pid)
    time.sleep(_LEASE * rounds)
    spent = cpu_seconds(process) + cpu_seconds(it.server.pid) - used
    return spent / (3 * rounds)
