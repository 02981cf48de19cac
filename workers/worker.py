"""The RQ worker that carries many lanes at once, and the only one who knows RQ here.

The main thread runs RQ's own ``work()`` and takes jobs; ``lane_loop`` carries them on
an event loop in a second thread; ``books`` writes down in a third what RQ's tools show:
registries, executions, counters, state and heartbeats. A success leaves no result
stream, since lanes return nothing.

Jobs are hints (R1), which is what makes this simple. BLPOP over several queues loses
the job of a process that dies in that moment, and a leaving worker puts none back:
the reclaimer sees the fetch by our own leases. No RQ timeout ends a lane (R25).
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
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
from rq.exceptions import DequeueTimeout, InvalidJobOperation
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.job_lifecycle import record_job_failure
from rq.suspension import WORKERS_SUSPENDED
from rq.utils import now, utcformat
from rq.worker import BaseWorker, WorkerStatus
from typing_extensions import override

from broker.connection import told_apart
from broker.queue import QUEUES, LaneJobClass, rq_client
from workers.books import Books, Duties, delay
from workers.lane_loop import Engine, LaneLoop, LaneRun

_BLOCK = 1  # s in BLPOP: how late an idle worker hears a signal
_REPLY = 10.0  # s for any reply of Redis, so more than _BLOCK
_BEAT = 10  # s between heartbeats; RQ gives an execution up after _BEAT + 60
_ECHO = timedelta(seconds=1)  # a second signal within it is the first one again
_UNWIND = 2.0  # s for cancelled lanes, the engine and the books to end, each
_log = logging.getLogger(__name__)


class _Ledger:
    """What is written for a job that is taken and ended; on the thread of the books."""

    def __init__(self, worker: FetchWorker) -> None:
        self._worker = worker
        self._open: dict[str, tuple[Job, Execution]] = {}
        self._shown: str | None = None
        self.duties = Duties(self._beat, _BEAT, self._show_state, worker.leave)

    def begin(self, job: Job, execution: Execution, pipe: Pipeline) -> None:
        """Move a job from the queue to the running ones."""
        self._open[execution.id] = job, execution
        worker = self._worker
        ttl = worker.get_heartbeat_ttl(job)
        execution.save(ttl, pipeline=pipe)
        job.execution_registry.add(execution, ttl, pipeline=pipe)
        job.started_job_registry.add_execution(execution, pipeline=pipe, ttl=ttl)
        pipe.sadd(worker.executions_key, execution.composite_key)
        pipe.expire(worker.executions_key, ttl + 60)
        job.prepare_for_execution(worker.name, pipeline=pipe)
        pipe.persist(job.key)
        if len(worker.queues) == 1:  # taken with BLMOVE
            pipe.lrem(worker.queues[0].intermediate_queue_key, 1, job.id)

    def end(self, job: Job, execution: Execution, run: LaneRun, pipe: Pipeline) -> None:
        """Finish, fail or stop a job, as its lane ended."""
        failure = run.failure()
        if failure is None:
            self._succeed(job, execution, pipe)
            return
        self.fail(job, execution, failure, pipe)
        if run.stopped:
            job.set_status(JobStatus.STOPPED, pipeline=pipe)

    def fail(
        self, job: Job, execution: Execution, failure: str, pipe: Pipeline
    ) -> None:
        """Fail a job, never to be retried by RQ."""
        self._close(job, execution, pipe)
        self._worker.increment_failed_job_count(pipeline=pipe)
        record_job_failure(job, failure, pipe)
        _log.warning("job %s failed (%s): %s", job.id, job.description, failure)

    def _succeed(self, job: Job, execution: Execution, pipe: Pipeline) -> None:
        worker = self._worker
        ended_at = self._close(job, execution, pipe)
        worker.increment_successful_job_count(pipeline=pipe)
        # A reclaimer that took this lane for dead has failed its job.
        job.failed_job_registry.remove(job, pipeline=pipe)
        pipe.hset(job.key, items=["status", JobStatus.FINISHED, "ended_at", ended_at])
        ttl = job.get_result_ttl(worker.default_result_ttl)
        job.finished_job_registry.add(job, ttl, pipe)
        if ttl >= 0:
            pipe.expire(job.key, ttl)
        _log.info("job %s finished (%s)", job.id, job.description)

    def _close(self, job: Job, execution: Execution, pipe: Pipeline) -> str:
        self._open.pop(execution.id, None)
        self._worker.cleanup_execution(job, pipeline=pipe, execution=execution)
        job.ended_at = now()
        taken = job.ended_at - (job.started_at or job.ended_at)
        self._worker.increment_total_working_time(taken, pipeline=pipe)
        return utcformat(job.ended_at)

    def _beat(self, pipe: Pipeline) -> None:
        worker = self._worker
        if not worker.connection.exists(worker.key):  # an emptied Redis
            worker.register_birth()  # type: ignore[no-untyped-call]
        worker.heartbeat(pipeline=pipe)
        self._shown = None
        for job, execution in self._open.values():
            ttl = worker.get_heartbeat_ttl(job)
            execution.heartbeat(job.started_job_registry, ttl, pipeline=pipe)
        worker.maintain()

    def _show_state(self, pipe: Pipeline) -> None:
        idle = WorkerStatus.SUSPENDED if self._worker.suspended else WorkerStatus.IDLE
        state = WorkerStatus.BUSY if self._open else idle
        if state != self._shown:
            self._shown = state
            self._worker.set_state(state, pipeline=pipe)


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
        self._ledger = _Ledger(self)
        self._books = Books(connection, self._ledger.duties)

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
        """Never in ``work()``: see ``maintain``."""
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
        self._lanes.take_slot()
        failures = 0
        while not self._stop_requested:
            # Looked at first: a lane that ends now may have enqueued another.
            last = timeout is None and not self._lanes.running
            try:
                found = self._take(timeout)
                self._books.found()
                failures = 0
            except RedisError as error:
                self._books.lost(error)
                failures += 1
                self._lanes.wait(delay(failures))
                continue
            except Exception:  # an id that names no job is dropped: RQ has popped it
                _log.exception("an unusable job id was dropped")
                continue
            if found is not None:
                return found
            if last:
                break
            if timeout is None or self.suspended:
                self._lanes.wait(_BLOCK)
        self._lanes.free_slot()
        return None

    def _take(self, timeout: int | None) -> tuple[Job, Queue] | None:
        if time.monotonic() >= self._suspension_due:
            self.suspended = bool(self.connection.exists(WORKERS_SUSPENDED))
            self._suspension_due = time.monotonic() + _BLOCK
        if self.suspended:
            return None
        queues, connection = self._ordered_queues, self.connection
        with suppress(DequeueTimeout):
            return Queue.dequeue_any(queues, timeout, connection, self.job_class)
        return None

    @override
    def execute_job(self, job: Job, queue: Queue) -> None:
        """Hand the lane to the engine and return at once."""
        job.origin = queue.name
        execution = Execution(uuid4().hex, job.id, self.connection, self.name)
        self._books.put(partial(self._ledger.begin, job, execution))
        try:
            assert isinstance(job, LaneJobClass)
            scope, uid = job.lane
        except InvalidJobOperation as error:
            self._books.put(partial(self._ledger.fail, job, execution, str(error)))
            self._lanes.free_slot()
            return

        def ended(run: LaneRun) -> None:
            self._books.put(partial(self._ledger.end, job, execution, run))

        self._lanes.carry(LaneRun(execution.id, job.id, scope, uid, ended))

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

    def maintain(self) -> None:
        """Clean RQ's registries when it is time."""
        if super().should_run_maintenance_tasks:
            self.last_cleaned_at = now()  # type: ignore[assignment]  # even if it fails
            self.run_maintenance_tasks()  # type: ignore[no-untyped-call]

    def leave(self) -> None:
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
