"""The seam to RQ's queues: a lane job is a hint that a fetch has work (R1).

One RQ job is one lane of one background fetch: function ``workers.fetch.perform``,
arguments ``(scope, uid)`` as JSON, id ``<uid>-<lane>-<n>``. What is wanted, and who
works on it, stands in our own keys, so that a job that is lost or runs twice does no
harm. RQ's retries, timeouts and callbacks are therefore off (R25).

JSON alone does not make a job safe: RQ imports and calls whatever path it names.
``LaneJobClass`` runs one function and nothing else; workers use no other class.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any, Self, TypeVar, cast

from anyio import CapacityLimiter, to_thread
from redis import Redis
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.exceptions import ResponseError
from redis.retry import Retry
from rq import Queue, get_current_job
from rq.exceptions import DeserializationError, InvalidJobOperation, NoSuchJobError
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.job_lifecycle import record_job_failure
from rq.scripts import UNIQUE_ENQUEUE_SCRIPT
from rq.serializers import JSONSerializer
from rq.utils import now
from rq.worker import BaseWorker
from rq.worker_registration import WORKERS_BY_QUEUE_KEY
from typing_extensions import override

from broker.connection import told_apart
from schemas.names import is_uid

# Priority -> RQ queue, in the order in which workers empty them.
QUEUES: Mapping[str, str] = MappingProxyType(
    {"high": "bgfetch-high", "auto": "bgfetch", "low": "bgfetch-low"}
)
PERFORM = "workers.fetch.perform"
RESULT_TTL = timedelta(seconds=60)
FAILURE_TTL = timedelta(days=1)

_ENQUEUE_SHA = hashlib.sha1(
    UNIQUE_ENQUEUE_SCRIPT.encode(), usedforsecurity=False
).hexdigest()
_PENDING = frozenset({JobStatus.CREATED, JobStatus.QUEUED, JobStatus.STARTED})
# A beat gives the key of our workers 120 s, that of stock ones more: what is left of
# it is the age of the last beat by one clock, Redis's.
_FRESH = 95
_MAX_SHOWN = 80  # characters of the caller's id in descriptions
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class LaneJob:
    """A lane that somebody should work on; ``id`` and ``records`` are for people."""

    job_id: str
    scope: str
    uid: str
    id: str
    records: int
    priority: str


@dataclass(frozen=True, slots=True)
class WorkerLook:
    """A worker, as RQ knows it."""

    name: str
    host: str
    pid: int | None
    state: str
    job: str | None
    what: str
    """The description of that job."""
    heartbeat_at: str | None
    """When RQ heard of it last, by the clock of its machine."""


class LaneJobClass(Job):
    """An RQ job that can only ever be ``workers.fetch.perform(scope, uid)``.

    Anything else in its hash - another function, callbacks, webhooks, pickles, noise -
    makes performing it fail with a message that says so. Loading it never raises for
    that: the exception would end the worker that fetched it.
    """

    _refusal: str | None = None

    def __init__(
        self,
        id: str | None = None,
        connection: Redis | None = None,
        serializer: object = None,
    ) -> None:
        super().__init__(id, connection=connection)
        # Never the worker's serializer: RQ's default unpickles, which runs code. Set
        # here, since RQ takes longer to check it than for all the rest.
        self.serializer = JSONSerializer

    @classmethod
    def read(cls, id: str, row: dict[bytes, bytes], connection: Redis) -> Self:
        """Return the job of a hash that was read already.

        Raises:
            ValueError: ``id`` is none.
            NoSuchJobError: the hash holds no job.
        """
        job = cls(id, connection=connection)
        job.restore(row)
        return job

    @property
    def lane(self) -> tuple[str, str]:
        """The scope and uid of this job.

        Raises:
            InvalidJobOperation: it is not a lane job; says why.
        """
        refusal = self._refusal or self._inspect()
        if refusal:
            raise InvalidJobOperation(f"job {self.id} is refused: {refusal}")
        scope, uid = self.args
        return scope, uid

    @property
    @override
    def func(self) -> Any:
        """What ``rq worker`` calls, after the same checks."""
        _ = self.lane
        return super().func

    @override
    def refresh(self) -> None:
        """Load the hash; a key that is no hash is no job, which RQ skips."""
        try:
            super().refresh()  # type: ignore[no-untyped-call]
        except ResponseError as error:
            if not str(error).startswith("WRONGTYPE"):
                raise
            raise NoSuchJobError(f"{self.key} holds no job") from error

    @override
    def restore(self, raw_data: dict[bytes, bytes]) -> None:
        """Take over what can be read, and disarm what RQ would act upon by itself."""
        self._refusal, self.data = None, b""
        try:
            super().restore(raw_data)
        except NoSuchJobError:
            raise
        except Exception as error:  # recorded as the failure of this job
            self._refusal = f"its hash cannot be read ({error!r})"
        self._disarm()

    def _disarm(self) -> None:
        armed = {
            "success callback": self._success_callback_name,
            "failure callback": self._failure_callback_name,
            "stopped callback": self._stopped_callback_name,
            "webhooks": self.webhooks,
        }
        for what, value in armed.items():
            if value and self._refusal is None:
                self._refusal = f"{what} {value!r} is not allowed"
        self._success_callback_name = None
        self._failure_callback_name = self._stopped_callback_name = None
        self.webhooks = []
        self.retries_left = self.repeats_left = None
        if self.failure_ttl is None:  # RQ would keep the failure for ever
            self.failure_ttl = int(FAILURE_TTL.total_seconds())

    def _inspect(self) -> str | None:
        try:
            name, args = self.func_name, self.args
        except DeserializationError as error:
            return f"its data cannot be read ({error.__cause__!r})"
        if name != PERFORM:
            return f"function {name!r:.80} is not {PERFORM}"
        match args:
            case [str(), str(uid)] if is_uid(uid):
                bound = self.instance is not None or self.kwargs
                return "it has more than a scope and a uid" if bound else None
        return f"its arguments are not a scope and a uid: {args!r:.80}"


class JobQueue:
    """Enqueues and ends lane jobs, in a thread, on a Redis client of its own.

    A coroutine that is cancelled returns at once; its commands may still arrive.
    """

    def __init__(self, redis_url: str) -> None:
        self._url = redis_url
        self._one_at_a_time = CapacityLimiter(1)

    async def enqueue(self, jobs: Sequence[LaneJob]) -> None:
        """Enqueue all jobs in one round trip; one that was enqueued before is left be.

        Raises:
            Unreachable: Redis does not answer; any number of the jobs may be enqueued,
                and the same call may be repeated.
            QuotaExceeded: Redis is at its ``maxmemory``.
        """
        if jobs:
            await self._in_thread(partial(self._enqueue, jobs))

    async def abandon(self, job_ids: Sequence[str], reason: str) -> None:
        """Record jobs whose lane was replaced as failed, so that RQ tells the truth.

        They leave queue, started registry and their worker's executions. Jobs that
        ended meanwhile, or are gone, are left alone.

        Raises:
            Unreachable: Redis does not answer; the same call may be repeated.
        """
        if job_ids:
            await self._in_thread(partial(self._abandon, job_ids, reason))

    async def drop(self, job_ids: Sequence[str]) -> None:
        """Take jobs that nobody has begun out of the queues, and forget them.

        Raises:
            Unreachable: Redis does not answer; the same call may be repeated.
        """
        if job_ids:
            await self._in_thread(partial(self._drop, job_ids))

    async def waiting(self) -> dict[str, int]:
        """Count the jobs that wait in each queue, by its name.

        Raises:
            Unreachable: Redis does not answer.
        """
        return await self._in_thread(self._waiting)

    async def workers_alive(self) -> list[str]:
        """Name the workers of these queues that were heard of lately.

        A worker that was killed is listed for up to 25 seconds more.

        Raises:
            Unreachable: Redis does not answer.
        """
        return await self._in_thread(self._workers_alive)

    async def workers(self) -> list[WorkerLook]:
        """Tell what the same workers do.

        Raises:
            Unreachable: Redis does not answer.
        """
        return await self._in_thread(self._workers)

    async def aclose(self) -> None:
        """Close the connections, also those of cancelled calls."""
        if "_client" in self.__dict__:
            self._client.close()

    @cached_property
    def _client(self) -> Redis:
        return rq_client(self._url, socket_timeout=None)

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        with told_apart(self._url):
            return await to_thread.run_sync(
                work, abandon_on_cancel=True, limiter=self._one_at_a_time
            )

    def _enqueue(self, jobs: Sequence[LaneJob]) -> None:
        # Not MULTI (R22): each script is whole by itself. The first command makes sure
        # that the server knows the script that the others name.
        with self._client.pipeline(transaction=False) as pipe:
            pipe.script_load(UNIQUE_ENQUEUE_SCRIPT)
            queues = {queue_key(job.priority) for job in jobs}
            pipe.sadd(Queue.redis_queues_keys, *queues)
            for job in jobs:
                keys = LaneJobClass.key_for(job.job_id), queue_key(job.priority)
                fields = _fields(job, self._client)
                pipe.evalsha(
                    _ENQUEUE_SHA, 2, *keys, job.job_id, "R", "-1", *fields
                )  # 0: this very id was enqueued before, which is as good
            pipe.execute()

    def _abandon(self, job_ids: Sequence[str], reason: str) -> None:
        for job_id in job_ids:
            key = LaneJobClass.key_for(job_id)
            # Begins again when the job's worker writes at the same time.
            self._client.transaction(partial(self._fail, job_id, reason), key)

    def _fail(self, job_id: str, reason: str, pipe: Pipeline) -> None:
        try:
            job = LaneJobClass.fetch(job_id, connection=self._client)
        except NoSuchJobError:
            return
        if job.get_status(refresh=False) not in _PENDING:
            return
        # Read raw: RQ's accessors drop, or trip over, what has expired meanwhile.
        ids = cast(
            "list[bytes]", self._client.zrange(job.execution_registry.key, 0, -1)
        )
        pipe.multi()
        for raw_id in ids:
            execution = Execution(
                raw_id.decode(), job.id, self._client, job.worker_name or ""
            )
            execution.delete(job, pipe)
        queue = Queue(job.origin, connection=self._client)
        pipe.lrem(queue.key, 0, job.id)
        pipe.lrem(queue.intermediate_queue_key, 0, job.id)
        record_job_failure(job, reason, pipe)

    def _drop(self, job_ids: Sequence[str]) -> None:
        for job_id in job_ids:
            key = LaneJobClass.key_for(job_id)
            # A worker that begins the job meanwhile writes it: then it is left alone.
            self._client.transaction(partial(self._forget, job_id, key), key)

    def _forget(self, job_id: str, key: str, pipe: Pipeline) -> None:
        row = cast("list[bytes | None]", self._client.hmget(key, "status", "origin"))
        status, name = row
        pipe.multi()
        if status == JobStatus.QUEUED.encode() and name is not None:
            queue = Queue(name.decode(), connection=self._client)
            pipe.lrem(queue.key, 0, job_id)
            pipe.delete(key)

    def _waiting(self) -> dict[str, int]:
        with self._client.pipeline(transaction=False) as pipe:
            for priority in QUEUES:
                pipe.llen(queue_key(priority))
            return dict(zip(QUEUES.values(), pipe.execute(), strict=True))

    def _workers_alive(self) -> list[str]:
        by_queue = [WORKERS_BY_QUEUE_KEY % name for name in QUEUES.values()]
        keys = sorted(cast("set[bytes]", self._client.sunion(by_queue)))
        with self._client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.ttl(key)
            lives = pipe.execute()
        return [
            key.decode().rpartition(":")[2]
            for key, left in zip(keys, lives, strict=True)
            if left > _FRESH
        ]

    def _workers(self) -> list[WorkerLook]:
        names = self._workers_alive()
        fields = ("hostname", "pid", "state", "current_job", "last_heartbeat")
        with self._client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hmget(BaseWorker.redis_worker_namespace_prefix + name, fields)
            rows = [[(one or b"").decode() for one in row] for row in pipe.execute()]
            for row in rows:
                pipe.hget(Job.key_for(row[3]), "description")
            told = pipe.execute()
        return [
            WorkerLook(
                name,
                host=row[0],
                pid=int(row[1]) if row[1].isdigit() else None,
                state=row[2],
                job=row[3] or None,
                what=(what or b"").decode(errors="replace"),
                heartbeat_at=row[4] or None,
            )
            for name, row, what in zip(names, rows, told, strict=True)
        ]


def queue_key(priority: str) -> str:
    """The Redis LIST of job ids that wait with this priority, for ``LPOS`` (R1)."""
    return Queue.redis_queue_namespace_prefix + QUEUES[priority]


def running_job() -> str:
    """The id of the job that RQ runs in this process; ``""`` outside of one."""
    job = get_current_job()
    return job.id if job is not None else ""


def rq_client(redis_url: str, *, socket_timeout: float | None) -> Redis:
    """A Redis client for RQ alone: bytes, and no automatic retries.

    RQ pushes and counts with commands that must not be sent twice. ``socket_timeout``
    is in seconds and has to exceed the longest blocking command.
    """
    return Redis.from_url(
        redis_url,
        decode_responses=False,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=socket_timeout,
    )


def _fields(lane: LaneJob, connection: Redis) -> list[str | bytes | float]:
    job = LaneJobClass.create(
        PERFORM,
        args=(lane.scope, lane.uid),
        connection=connection,
        description=_describe(lane),
        failure_ttl=int(FAILURE_TTL.total_seconds()),
        id=lane.job_id,
        meta={"scope": lane.scope, "id": lane.id},
        origin=QUEUES[lane.priority],
        result_ttl=int(RESULT_TTL.total_seconds()),
        status=JobStatus.QUEUED,
        timeout=-1,
    )
    job.enqueued_at = now()
    return [part for field in job.to_dict().items() for part in field]


def _describe(lane: LaneJob) -> str:
    shown = "".join(char if char.isprintable() else "?" for char in lane.id)
    if len(shown) > _MAX_SHOWN:
        shown = shown[: _MAX_SHOWN - 1] + "…"
    plural = "" if lane.records == 1 else "s"
    return f"fetch {lane.scope}/{shown} ({lane.records} record{plural})"
