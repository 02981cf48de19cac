"""What RQ's tools are shown of lane jobs: registries, executions, counters, state.

All of it is written on the thread of the books, after the fact. A success leaves no
result stream, since lanes return nothing.
"""

from __future__ import annotations

import logging

from redis.client import Pipeline
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.job_lifecycle import record_job_failure
from rq.utils import now, utcformat
from rq.worker import BaseWorker, WorkerStatus

from workers.lane_loop import LaneRun

_log = logging.getLogger(__name__)


class Ledger:
    """Writes down jobs that are taken and ended, and how their worker is."""

    def __init__(self, worker: BaseWorker) -> None:
        self._worker = worker
        self._open: dict[str, tuple[Job, Execution]] = {}
        self._shown: str | None = None

    def begin(
        self, job: Job, execution: Execution, run: LaneRun, pipe: Pipeline
    ) -> None:
        """Move a job to the running ones, unless its lane is over by now."""
        if run.over:
            return  # its end is written next, with a third of the commands
        run.shown = True
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

    def end(self, job: Job, execution: Execution, run: LaneRun, pipe: Pipeline) -> None:
        """Finish, fail or stop a job, as its lane ended."""
        ended_at = self._close(job, execution, pipe, shown=run.shown)
        failure = run.failure()
        if failure is None:
            self._succeed(job, ended_at, pipe)
            return
        self._fail(job, failure, pipe)
        if run.stopped:
            job.set_status(JobStatus.STOPPED, pipeline=pipe)

    def refuse(
        self, job: Job, execution: Execution, reason: str, pipe: Pipeline
    ) -> None:
        """Fail a job that had no lane."""
        self._close(job, execution, pipe, shown=False)
        self._fail(job, reason, pipe)

    def _fail(self, job: Job, failure: str, pipe: Pipeline) -> None:
        """Never to be retried by RQ."""
        self._worker.increment_failed_job_count(pipeline=pipe)
        record_job_failure(job, failure, pipe)
        _log.warning("job %s failed (%s): %s", job.id, job.description, failure)

    def _succeed(self, job: Job, ended_at: str, pipe: Pipeline) -> None:
        worker = self._worker
        worker.increment_successful_job_count(pipeline=pipe)
        # A reclaimer that took this lane for dead has failed its job.
        job.failed_job_registry.remove(job, pipeline=pipe)
        pipe.hset(job.key, items=["status", JobStatus.FINISHED, "ended_at", ended_at])
        ttl = job.get_result_ttl(worker.default_result_ttl)
        job.finished_job_registry.add(job, ttl, pipe)
        if ttl >= 0:
            pipe.expire(job.key, ttl)
        _log.info("job %s finished (%s)", job.id, job.description)

    def _close(
        self, job: Job, execution: Execution, pipe: Pipeline, *, shown: bool
    ) -> str:
        worker = self._worker
        if shown:
            self._open.pop(execution.id, None)
            worker.cleanup_execution(job, pipeline=pipe, execution=execution)
        else:
            job.prepare_for_execution(worker.name, pipeline=pipe)
            job.started_at = execution.created_at
        job.ended_at = now()
        taken = job.ended_at - (job.started_at or job.ended_at)
        worker.increment_total_working_time(taken, pipeline=pipe)
        return utcformat(job.ended_at)

    def beat(self, pipe: Pipeline) -> None:
        """Keep the worker and what it works on from being taken for dead."""
        worker = self._worker
        if not worker.connection.exists(worker.key):  # an emptied Redis
            worker.register_birth()  # type: ignore[no-untyped-call]
        worker.heartbeat(pipeline=pipe)
        self._shown = None
        for job, execution in self._open.values():
            ttl = worker.get_heartbeat_ttl(job)
            execution.heartbeat(job.started_job_registry, ttl, pipeline=pipe)

    def show_state(self, pipe: Pipeline, *, suspended: bool) -> None:
        """Write whether the worker is at work, where that has changed."""
        idle = WorkerStatus.SUSPENDED if suspended else WorkerStatus.IDLE
        state = WorkerStatus.BUSY if self._open else idle
        if state != self._shown:
            self._shown = state
            self._worker.set_state(state, pipeline=pipe)
