"""``publish-handle-ack``: events a second, beside queues with a no-op behind them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec

from tests.benchmarks.measure import Sample, interleave, peak_mib
from tests.benchmarks.queues import AT_ONCE, FETCHES, Bare, Ours, Queue
from tests.benchmarks.report import Figures
from tests.benchmarks.stage import Stage, redis_name, stage, wait_for

_EVENTS = 5000
_AIM = 4.0
_DRAMATIQ = ["dramatiq", "--processes", "1", "tests.benchmarks.dramatiq_peer:set_up"]
_TASKIQ = ["taskiq", "worker", "tests.benchmarks.taskiq_peer:set_up", "--workers", "1"]


class Handled:
    """Measures a queue, from the first publication to the last acknowledgement."""

    def __init__(self, queue: Queue, stage: Stage, process: int, count: int) -> None:
        self.name = queue.name
        self._queue, self._stage = queue, stage
        self._process, self._count = process, count

    def run(self) -> Sample:
        """Publish everything, and wait until it is handled."""
        used = self._stage.cpu(self._process)
        began = time.perf_counter()
        self._queue.publish(self._count)
        wait_for(self._queue.is_empty, f"{self.name} to handle {self._count} messages")
        wall = time.perf_counter() - began
        return Sample(wall, self._stage.cpu(self._process) - used)


def measure(scale: float, rounds: int) -> list[Figures]:
    """Let us, the peers that are installed, and a bare loop take turns.

    Raises:
        BenchmarkError: somebody did not do the work.
    """
    count = max(1, round(_EVENTS * scale))
    with ExitStack() as stack:
        it = stack.enter_context(stage())
        process = stack.enter_context(it.subscriber("nothing"))
        ours = Handled(Ours(it.redis, it.loop, it.manager), it, process, count)
        bare = Handled(Bare(it.redis), it, stack.enter_context(it.bare("drain")), count)
        peers = [
            Handled(queue, it, worker, count)
            for queue, worker in stack.enter_context(_peers(it))
        ]
        medians = interleave([ours, *peers, bare], rounds)
        peak = peak_mib(process)
    names = [peer.name for peer in peers]
    missing = sorted({"dramatiq", "taskiq"} - set(names))
    return [
        Figures(
            case="publish-handle-ack",
            unit="events/s",
            ours=count / medians["ours"].wall,
            peers={name: count / medians[name].wall for name in names},
            limits={bare.name: count / medians[bare.name].wall},
            aim=dict.fromkeys(names, _AIM),
            rss_mib=peak,
            cpu_seconds={name: medians[name].cpu for name in ("ours", *names)},
            note=_note(count, missing),
        )
    ]


def _note(count: int, missing: list[str]) -> str:
    left_out = f"; not installed and left out: {', '.join(missing)}" if missing else ""
    return (
        f"{count} clicks on {FETCHES} fetches, {AT_ONCE} under way, one producer and "
        f"one subscriber process with an async no-op; {redis_name()} for all, nobody "
        "logs each message; dramatiq: one process, eight threads; taskiq: "
        f"RedisStreamBroker, one worker, {AT_ONCE} under way{left_out}"
    )


@contextmanager
def _peers(it: Stage) -> Iterator[list[tuple[Queue, int]]]:
    """Start the peers that are installed."""
    found: list[tuple[Queue, int]] = []
    with ExitStack() as stack:
        if find_spec("dramatiq"):
            from tests.benchmarks.dramatiq_peer import Dramatiq

            worker = stack.enter_context(it.program("-m", *_DRAMATIQ))
            found.append((Dramatiq(it.redis), worker))
        if find_spec("taskiq") and find_spec("taskiq_redis"):
            from tests.benchmarks.taskiq_peer import Taskiq

            command = ["-m", *_TASKIQ, "--log-level", "WARNING"]
            worker = stack.enter_context(it.program(*command))
            taskiq = Taskiq(it.redis, it.loop)
            stack.callback(taskiq.close)
            found.append((taskiq, worker))
        yield found
