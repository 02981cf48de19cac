"""The RQ worker that carries many lanes at once, and the only one who knows RQ here.

The main thread runs RQ's own ``work()`` and takes jobs; ``lane_loop`` carries them on
an event loop in a second thread; ``books`` writes down in a third what RQ's tools
show, as the ``ledger`` says.

Jobs are hints (R1), which is what makes this simple. Those that were taken by a process
which dies in that moment are lost, and a leaving worker puts none back: the reclaimer
sees the fetch by our own leases. No RQ timeout ends a lane (R25).
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import partial
from types import FrameType
from typing import Any
from uuid import uuid4

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import RedisError
from rq import Queue
from rq.command import handle_command, parse_payload
from rq.exceptions import InvalidJobOperation
from rq.executions import Execution
from rq.job import Job
from rq.suspension import WORKERS_SUSPENDED
from rq.utils import now
from rq.worker import BaseWorker
from typing_extensions import override

from broker.connection import told_apart
from broker.queue import QUEUES, LaneJobClass, rq_client
from workers.books import Books, Duties, delay
from workers.intake import Intake
from workers.lane_loop import Engine, LaneLoop, LaneRun
from workers.ledger import Ledger

_BLOCK = 1  # s in BLMPOP: how late an idle worker hears a signal
_REPLY = 10.0  # s for any reply of Redis, so more than _BLOCK
_BEAT = 10  # s between heartbeats; RQ gives an execution up after _BEAT + 60
_ECHO = timedelta(seconds=1)  # a second signal within it is the first one again
_UNWIND = 2.0  # s for cancelled lanes, the engine and the books to end, each
_log = logging.getLogger(__name__)


class FetchWorker(BaseWorker):
    """Carries up to ``concurrency`` lanes at a time, and takes no job beyond them.

    ``work()`` serves the main thread of a process, once: the first TERM or INT drains
    the lanes and ends it within ``grace``, a later one ends the process at once with
    128 plus its number. In another thread it leaves signals alone: call ``stop``.
    """

    def __init__(
        self,
        engine: Engine,
        connection: Redis,
        *,
        name: str,
        queues: Iterable[str] = tuple(QUEUES.values()),
        concurrency: int = 16,
        grace: timedelta = timedelta(seconds=30),
    ) -> None:
        super().__init__(
            list(queues),
            name=name,
            connection=connection,
            job_class=LaneJobClass,
            job_monitoring_interval=_BEAT,
            serializer="json",
            worker_ttl=6 * _BEAT,
        )
        self.suspended = False
        self._suspension_due = 0.0
        self._grace = grace.total_seconds()
        self._deadline: float | None = None
        self._lanes = LaneLoop(engine, concurrency)
        self._intake = Intake(connection, {each.key: each.name for each in self.queues})
        self._ledger = Ledger(self)
        duties = Duties(self._beat, _BEAT, self._show_state, self._leave)
        self._books = Books(connection, duties)

    @property
    def stopping(self) -> bool:
        """Whether ``stop`` was called."""
        return self._deadline is not None

    def stop(self) -> None:
        """Take no more jobs and drain the lanes; callable from anywhere, repeatedly."""
        if self._deadline is None:
            self._deadline = time.monotonic() + self._grace
        self._stop_requested = True
        self._lanes.drain()

    # The main thread: what work() calls, in its order.

    @override
    def bootstrap(self, *_: object, **__: object) -> None:
        """Start engine, registration and books; logging is the caller's to set up."""
        self._lanes.start()
        try:
            self.register_birth()  # type: ignore[no-untyped-call]
            self.subscribe()  # type: ignore[no-untyped-call]
        except BaseException:
            self._lanes.close(time.monotonic() + _UNWIND, 0)
            raise
        self._books.start()

    @override
    def _install_signal_handlers(self) -> None:
        if threading.current_thread() is threading.main_thread():
            super()._install_signal_handlers()  # type: ignore[no-untyped-call]

    @override
    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """Handle the first signal by flags alone: raising could hit Redis I/O."""
        self._shutdown_requested_date = now()
        signal.signal(signal.SIGINT, self.request_force_stop)
        signal.signal(signal.SIGTERM, self.request_force_stop)
        self.stop()

    @override
    def request_force_stop(self, signum: int, frame: FrameType | None) -> None:
        """Drop everything: files are resumable, leases run out by themselves."""
        first = self._shutdown_requested_date
        if first is None or now() - first >= _ECHO:
            os._exit(128 + signum)

    @override
    def check_for_suspension(self, burst: bool) -> None:
        """Do nothing: it is looked at where an outage of Redis is handled."""

    @property
    @override
    def should_run_maintenance_tasks(self) -> bool:
        """Never in ``work()``: see ``_beat``."""
        return False

    @override
    def heartbeat(
        self, timeout: int | None = None, pipeline: Pipeline | None = None
    ) -> None:
        """Write to a pipeline of the books; alone, after each job, it is a waste."""
        if pipeline is not None:
            super().heartbeat(timeout, pipeline)

    @property
    @override
    def dequeue_timeout(self) -> int:
        """Seconds in one blocking look at the queues."""
        return _BLOCK

    @override
    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """Wait for a free slot, then for a job; None when stopped, or done in burst."""
        slots, failures = self._lanes.take_slots(), 0
        while not self._stop_requested:
            # Looked at first: a lane that ends now may have enqueued another.
            last = timeout is None and not self._lanes.running
            try:
                jobs = self._take(slots, timeout)
                self._books.found()
                failures = 0
            except RedisError as error:
                self._books.lost(error)
                failures += 1
                self._lanes.wait(delay(failures))
                continue
            if jobs:
                self._lanes.free_slots(slots - len(jobs))
                # RQ's loop takes one job at a time; the others begin right here.
                *others, job = jobs
                for other in others:
                    self._begin(other)
                return job, Queue(job.origin, self.connection)
            if last:
                break
            if timeout is None or self.suspended:
                self._lanes.wait(_BLOCK)
        self._lanes.free_slots(slots)
        return None

    def _take(self, most: int, timeout: int | None) -> list[LaneJobClass]:
        if time.monotonic() >= self._suspension_due:
            self.suspended = bool(self.connection.exists(WORKERS_SUSPENDED))
            self._suspension_due = time.monotonic() + _BLOCK
        return [] if self.suspended else self._intake.take(most, timeout)

    @override
    def execute_job(self, job: Job, queue: Queue) -> None:
        """Hand the lane to the engine and return at once."""
        assert isinstance(job, LaneJobClass)
        self._begin(job)

    def _begin(self, job: LaneJobClass) -> None:
        execution = Execution(uuid4().hex, job.id, self.connection, self.name)
        put, ledger = self._books.put, self._ledger
        try:
            scope, uid = job.lane
        except InvalidJobOperation as error:
            put(partial(ledger.refuse, job, execution, str(error)))
            self._lanes.free_slots(1)
            return
        run = LaneRun(
            execution.id,
            job.id,
            scope,
            uid,
            ended=lambda run: put(partial(ledger.end, job, execution, run)),
        )
        put(partial(ledger.begin, job, execution, run))
        self._lanes.carry(run)

    @override
    def teardown(self) -> None:
        """Drain the lanes and close the books, without Redis in this thread."""
        began = time.monotonic()
        unwind = min(_UNWIND, self._grace / 4)
        # A short grace may have gone by in the last look at the queues.
        deadline = max(self._deadline or began + self._grace, began + 4 * unwind)
        self._lanes.close(deadline - unwind, unwind)
        self._books.close(deadline)

    # The thread of RQ's commands.

    @override
    def handle_payload(self, message: dict[Any, Any]) -> None:
        """Obey ``rq``'s commands; those that name a job may mean any of the lanes."""
        payload = parse_payload(message)
        command = payload.get("command")
        if command == "stop-job":
            self._stop_lanes(lambda run: run.job_id == payload.get("job_id"))
        elif command == "shutdown":
            self.stop()
        else:
            handle_command(self, payload)

    @override
    def request_stop_execution(self, execution_id: str) -> None:
        """End one lane; if its fetch has work left, the reclaimer wants another."""
        self._stop_lanes(lambda run: run.id == execution_id)

    def _stop_lanes(self, meant: Callable[[LaneRun], bool]) -> None:
        runs = [run for run in tuple(self._lanes.running) if meant(run)]
        for run in runs:
            run.stopped = True
        self._lanes.cancel(runs)

    @override
    def _pubsub_exception_handler(self, exc: Exception, *_: object) -> None:
        """Go on after any error, without which no command would arrive again."""
        if not isinstance(exc, RedisError):
            _log.warning("a command could not be read", exc_info=exc)
        self._books.closing.wait(_BLOCK)

    # The thread of the books.

    def _beat(self, pipe: Pipeline) -> None:
        self._ledger.beat(pipe)
        if super().should_run_maintenance_tasks:
            self.last_cleaned_at = now()  # type: ignore[assignment]  # even if it fails
            self.run_maintenance_tasks()  # type: ignore[no-untyped-call]

    def _show_state(self, pipe: Pipeline) -> None:
        self._ledger.show_state(pipe, suspended=self.suspended)

    def _leave(self) -> None:
        """Leave RQ's registries and the command channel."""
        self.pubsub_thread.stop()  # type: ignore[attr-defined]  # before it is woken
        super().teardown()  # type: ignore[no-untyped-call]


def run_worker(
    redis_url: str,
    engine: Callable[[], Engine],
    *,
    concurrency: int = 16,
    name: str | None = None,
    burst: bool = False,
    grace: timedelta = timedelta(seconds=30),
) -> int:
    """Work on lane jobs until a signal, with ``burst`` until none is left.

    ``name`` (the host's by default) gets a suffix that is new at every start, so that
    a worker never meets the registration of one that was killed. Returns the exit code:
    0, or 1 when the loop ended for no known reason; the log has the error.

    Raises:
        Unreachable: Redis does not answer at the start. Later it is waited for.
    """
    connection = rq_client(redis_url, socket_timeout=_REPLY)
    try:
        with told_apart(redis_url):
            worker = FetchWorker(
                engine(),
                connection,
                name=f"{name or socket.gethostname()}-{uuid4().hex[:8]}",
                concurrency=concurrency,
                grace=grace,
            )
            worker.work(burst=burst)
    finally:
        connection.close()
    return 0 if burst or worker.stopping else 1
