"""Lane jobs in RQ's queues: hints that may repeat, and that run one function (R1)."""

from __future__ import annotations

import json
import os
import pickle
import socket
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from anyio import move_on_after
from redis import Redis
from rq import Callback, Queue, SimpleWorker
from rq.exceptions import InvalidJobOperation
from rq.job import Job, JobStatus
from rq.job_lifecycle import record_job_failure
from rq.registry import FailedJobRegistry, StartedJobRegistry
from rq.serializers import JSONSerializer
from typing_extensions import override

from broker.queue import QUEUES, JobQueue, LaneJob, LaneJobClass, queue_key
from schemas.errors import Unreachable

UID = "0123456789abcdef" * 2


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
async def queue(redis_url: str) -> AsyncIterator[JobQueue]:
    jobs = JobQueue(redis_url)
    yield jobs
    await jobs.aclose()


def lane(n: int = 1, *, id: str = "ep-5", priority: str = "auto") -> LaneJob:
    return LaneJob(f"{UID}-0-{n}", "podcasts", UID, id, 2, priority)


def waiting(redis: Redis, priority: str = "auto") -> list[str]:
    ids: Any = redis.lrange(queue_key(priority), 0, -1)
    return [raw.decode() for raw in ids]


async def test_a_batch_waits_in_the_queues_of_its_priorities(
    queue: JobQueue, redis: Redis
) -> None:
    await queue.enqueue([lane(1), lane(2, priority="high"), lane(3), lane(4)])

    assert waiting(redis) == [f"{UID}-0-{n}" for n in (1, 3, 4)]
    assert waiting(redis, "high") == [f"{UID}-0-2"]
    assert await queue.waiting() == {"bgfetch-high": 1, "bgfetch": 3, "bgfetch-low": 0}
    known = {known.name for known in Queue.all(connection=redis)}
    assert known == {QUEUES["auto"], QUEUES["high"]}


async def test_a_lane_job_reads_well_in_any_tool_of_rq(
    queue: JobQueue, redis: Redis
) -> None:
    await queue.enqueue([lane()])

    job = Job.fetch(f"{UID}-0-1", connection=redis, serializer=JSONSerializer)
    assert job.description == "fetch podcasts/ep-5 (2 records)"
    assert job.meta == {"scope": "podcasts", "id": "ep-5"}
    assert (job.func_name, job.args) == ("workers.fetch.perform", ["podcasts", UID])
    assert job.get_status() is JobStatus.QUEUED
    # No limit to a lane, none to its wait, no retries (R25); results are forgotten.
    assert (job.timeout, job.ttl, job.retries_left) == (-1, None, None)
    assert (job.result_ttl, job.failure_ttl) == (60, 86_400)


@pytest.mark.parametrize(
    ("id", "shown"),
    [
        ("a\nb\x1b[2J", "fetch podcasts/a?b?[2J (2 records)"),
        ("x" * 1024, f"fetch podcasts/{'x' * 79}… (2 records)"),
        ("Folge fünf", "fetch podcasts/Folge fünf (2 records)"),
    ],
)
async def test_a_description_is_one_short_line_whatever_the_id(
    queue: JobQueue, redis: Redis, id: str, shown: str
) -> None:
    await queue.enqueue([lane(id=id)])

    job = LaneJobClass.fetch(f"{UID}-0-1", connection=redis)
    assert (job.description, job.meta["id"]) == (shown, id)


async def test_a_repeated_enqueue_adds_nothing_and_succeeds(
    queue: JobQueue, redis: Redis
) -> None:
    """R1: a duplicate of the very same job id counts as success, of no other."""
    await queue.enqueue([lane(1)])
    await queue.enqueue([lane(1), lane(2)])
    assert waiting(redis) == [f"{UID}-0-1", f"{UID}-0-2"]

    redis.lpop(queue_key("auto"))  # taken by a worker
    await queue.enqueue([lane(1), lane(2)])
    assert waiting(redis) == [f"{UID}-0-2"]


async def test_a_server_that_lost_its_scripts_still_takes_jobs(
    queue: JobQueue, redis: Redis
) -> None:
    """R22: a missing script is sent again."""
    await queue.enqueue([lane(1)])
    redis.script_flush()

    await queue.enqueue([lane(2)])

    assert len(waiting(redis)) == 2


async def test_enqueue_raises_unreachable_without_a_server(tmp_path: Path) -> None:
    queue = JobQueue(f"unix://{tmp_path}/none.sock")

    with pytest.raises(Unreachable):
        await queue.enqueue([lane()])
    with pytest.raises(Unreachable):
        await queue.abandon(["x"], "its worker died")
    with pytest.raises(Unreachable):
        await queue.waiting()
    await queue.aclose()


async def test_a_server_that_hangs_holds_nobody_who_is_cancelled(
    tmp_path: Path,
) -> None:
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(tmp_path / "deaf.sock"))
        deaf.listen()
        queue = JobQueue(f"unix://{tmp_path}/deaf.sock")

        with move_on_after(0.05) as patience:
            await queue.enqueue([lane()])

        assert patience.cancelled_caught
        await queue.aclose()


def begin(redis: Redis, job_id: str) -> SimpleWorker:
    """Have a worker take the job and die in it."""
    worker = SimpleWorker([QUEUES["auto"]], connection=redis, name="lost")
    worker.register_birth()  # type: ignore[no-untyped-call]
    redis.lpop(queue_key("auto"))
    job = LaneJobClass.fetch(job_id, connection=redis)
    worker.prepare_execution(job)
    worker.prepare_job_execution(job)
    return worker


async def test_an_abandoned_job_failed_and_runs_nowhere(
    queue: JobQueue, redis: Redis
) -> None:
    await queue.enqueue([lane()])
    worker = begin(redis, lane().job_id)
    started = StartedJobRegistry(QUEUES["auto"], connection=redis)
    assert started.get_job_count(cleanup=False) == 1

    await queue.abandon([lane().job_id], "its worker died")

    job = Job.fetch(lane().job_id, connection=redis, serializer=JSONSerializer)
    result = job.latest_result()
    assert job.get_status() is JobStatus.FAILED
    assert result is not None
    assert result.exc_string == "its worker died"
    assert lane().job_id in FailedJobRegistry(QUEUES["auto"], connection=redis)
    assert started.get_job_count(cleanup=False) == 0
    assert worker.current_execution_count == 0
    assert job.get_executions() == []
    assert list(redis.scan_iter("rq:execution:*")) == []


async def test_an_abandoned_job_that_still_waits_leaves_the_queue(
    queue: JobQueue, redis: Redis
) -> None:
    await queue.enqueue([lane(1), lane(2)])

    await queue.abandon([lane(1).job_id], "replaced")

    assert waiting(redis) == [lane(2).job_id]


async def test_what_ended_or_is_gone_is_not_abandoned(
    queue: JobQueue, redis: Redis
) -> None:
    await queue.enqueue([lane(1), lane(2)])
    for n, status in ((1, JobStatus.FINISHED), (2, JobStatus.STOPPED)):
        redis.hset(LaneJobClass.key_for(lane(n).job_id), "status", status)

    await queue.abandon([lane(n).job_id for n in (1, 2, 3)], "its worker died")

    jobs = LaneJobClass.fetch_many([lane(n).job_id for n in (1, 2, 3)], redis)
    states = [job.get_status() if job else None for job in jobs]
    assert states == [JobStatus.FINISHED, JobStatus.STOPPED, None]
    assert FailedJobRegistry(QUEUES["auto"], connection=redis).get_job_ids() == []


async def test_a_job_that_finishes_while_it_is_abandoned_has_finished(
    queue: JobQueue, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    await queue.enqueue([lane()])
    begin(redis, lane().job_id)

    def finish_first(job: Job, reason: str, pipe: Any) -> None:
        redis.hset(job.key, "status", JobStatus.FINISHED)
        record_job_failure(job, reason, pipe)

    monkeypatch.setattr("broker.queue.record_job_failure", finish_first)
    await queue.abandon([lane().job_id], "its worker died")

    job = LaneJobClass.fetch(lane().job_id, connection=redis)
    assert job.get_status() is JobStatus.FINISHED
    assert FailedJobRegistry(QUEUES["auto"], connection=redis).get_job_ids() == []


def stored(redis: Redis, function: str = "workers.fetch.perform", **more: Any) -> Job:
    """Enqueue with RQ's own means, as anyone could who reaches this Redis."""
    arguments: dict[str, Any] = {"args": ["podcasts", UID], "job_id": "j", **more}
    queue = Queue(QUEUES["auto"], connection=redis, serializer=JSONSerializer)
    queue.enqueue_call(function, **arguments)
    return LaneJobClass.fetch("j", connection=redis)


def test_a_lane_job_tells_its_scope_and_uid(redis: Redis) -> None:
    job = stored(redis)

    assert isinstance(job, LaneJobClass)
    assert job.lane == ("podcasts", UID)


@pytest.mark.parametrize(
    ("forgery", "why"),
    [
        ({"function": "os.system", "args": ["true"]}, "'os.system' is not"),
        ({"function": "workers.fetch.other"}, "is not workers.fetch.perform"),
        ({"args": ["podcasts"]}, "not a scope and a uid"),
        ({"args": ["podcasts", "../x"]}, "not a scope and a uid"),
        ({"args": ["podcasts", UID + "\n"]}, "not a scope and a uid"),
        ({"args": [1, UID]}, "not a scope and a uid"),
        ({"kwargs": {"x": 1}}, "more than a scope"),
        ({"on_success": Callback("os.abort")}, "success callback 'os.abort'"),
        ({"on_failure": Callback("os.abort")}, "failure callback 'os.abort'"),
        ({"on_stopped": Callback("os.abort")}, "stopped callback 'os.abort'"),
    ],
)
def test_a_job_that_is_not_a_lane_can_be_loaded_but_not_performed(
    redis: Redis, forgery: dict[str, Any], why: str
) -> None:
    """RQ imports and calls any path in a job, whichever serializer it has."""
    job = stored(redis, **forgery)

    assert isinstance(job, LaneJobClass)
    with pytest.raises(InvalidJobOperation, match=why):
        _ = job.lane
    with pytest.raises(InvalidJobOperation, match=why):
        job.perform()
    # What RQ would call by itself, in the course of recording the failure.
    assert (job.success_callback, job.failure_callback) == (None, None)
    assert job.stopped_callback is None


@pytest.mark.parametrize(
    "spoiled",
    [
        {"data": b"\xff\xfe"},
        {"data": zlib.compress(b"not json")},
        {"data": zlib.compress(b"[1, 2]")},
        {"data": zlib.compress(json.dumps(["x", None, 5, {}]).encode())},
        {"created_at": b"yesterday"},
        {"timeout": b"soon"},
        {"status": b"confused"},
        {"description": b"\xff"},
        {b"\xff": b"x"},
    ],
)
def test_a_job_that_cannot_be_read_can_be_loaded_and_recorded(
    redis: Redis, spoiled: dict[Any, bytes]
) -> None:
    stored(redis)
    redis.hset(LaneJobClass.key_for("j"), mapping=spoiled)

    job = LaneJobClass.fetch("j", connection=redis)

    assert isinstance(job, LaneJobClass)
    with pytest.raises(InvalidJobOperation, match="job j is refused"):
        _ = job.lane
    job.save()


def test_a_pickle_is_never_opened(redis: Redis, tmp_path: Path) -> None:
    """Faults row 80: not even where a worker's serializer would."""

    class Bomb:
        @override
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "exploded"),)

    stored(redis)
    poison = zlib.compress(pickle.dumps(Bomb()))
    redis.hset(LaneJobClass.key_for("j"), mapping={"data": poison, "meta": poison})

    job = LaneJobClass.fetch("j", connection=redis, serializer=pickle)

    with pytest.raises(InvalidJobOperation, match="cannot be read"):
        job.perform()
    assert not (tmp_path / "exploded").exists()
