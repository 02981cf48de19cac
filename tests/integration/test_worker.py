"""The worker that carries many lanes: books, poison, commands, outages, signals."""

from __future__ import annotations

import asyncio
import logging
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from redis import Redis
from rq import Queue, Retry, Worker
from rq.command import (
    send_command,
    send_shutdown_command,
    send_stop_execution_command,
    send_stop_job_command,
)
from rq.job import Job, JobStatus
from rq.registry import FailedJobRegistry, FinishedJobRegistry, StartedJobRegistry
from rq.serializers import JSONSerializer
from rq.suspension import resume, suspend
from rq.utils import as_text
from typing_extensions import override

from broker.embedded import EmbeddedServer
from broker.queue import QUEUES, JobQueue, LaneJob, LaneJobClass, queue_key, rq_client
from schemas.errors import StartError, Unreachable
from workers.worker import FetchWorker, run_worker

REPOSITORY = Path(__file__).parents[2]
PATIENCE = 10  # s until a test gives up


class _HeldEngine:
    """An engine whose lanes go on until they are released, drained or cancelled."""

    def __init__(self) -> None:
        self.begun: SimpleQueue[str] = SimpleQueue()
        self.closed = threading.Event()

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._held = asyncio.Event()

    async def perform(self, scope: str, uid: str, job_id: str) -> None:
        self.begun.put(job_id)
        await self._held.wait()

    async def drain(self) -> None:
        self._held.set()

    async def aclose(self) -> None:
        self.closed.set()

    def release(self) -> None:
        self._loop.call_soon_threadsafe(self._held.set)

    def next(self) -> str:
        return self.begun.get(timeout=PATIENCE)


class _QuickEngine(_HeldEngine):
    """An engine that does with each job what it is told to, and no more."""

    def __init__(self, act: Callable[[str], object] = lambda _: None) -> None:
        super().__init__()
        self._act = act

    @override
    async def perform(self, scope: str, uid: str, job_id: str) -> None:
        self.begun.put(job_id)
        self._act(job_id)


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare every test the second that a worker may be blocked in Redis."""
    monkeypatch.setattr("workers.worker._BLOCK", 0.05)
    monkeypatch.setattr("workers.books._TICK", 0.05)


@contextmanager
def working(url: str, engine: _HeldEngine, **options: Any) -> Iterator[FetchWorker]:
    """Have a worker at work in a thread; it leaves in the end."""
    with rq_client(url, socket_timeout=10) as connection:
        worker = FetchWorker(engine, connection, name="w", **options)
        thread = threading.Thread(target=worker.work)
        thread.start()
        try:
            yield worker
        finally:
            worker.stop()
            thread.join(PATIENCE)
        assert not thread.is_alive()


def enqueue(url: str, count: int = 1, *, priority: str = "auto") -> list[str]:
    """Enqueue lanes of as many fetches, and return the ids of the jobs."""
    queue = JobQueue(url)
    uids = [secrets.token_hex(16) for _ in range(count)]
    jobs = [LaneJob(f"{uid}-0-1", "podcasts", uid, "ep", 2, priority) for uid in uids]
    queue._enqueue(jobs)
    queue._client.close()
    return [job.job_id for job in jobs]


def until(probe: Callable[[], object]) -> None:
    """Look at Redis until the books are written there."""
    deadline = time.monotonic() + PATIENCE
    while not probe():
        assert time.monotonic() < deadline, "it did not come true"
        threading.Event().wait(0.01)


def status(redis: Redis, job_id: str) -> JobStatus | None:
    found = LaneJobClass.fetch_many([job_id], redis)[0]
    return found.get_status(refresh=False) if found else None


def seen(redis: Redis, name: str = "w") -> Worker:
    """The worker as ``rq info`` and dashboards see it."""
    worker = Worker.find_by_key(f"rq:worker:{name}", connection=redis)
    assert isinstance(worker, Worker)
    return worker


def state(redis: Redis) -> str:
    return str(as_text(redis.hget("rq:worker:w", "state") or b""))


def registered(redis: Redis) -> set[str]:
    return set(Worker.all_keys(connection=redis))


# Lanes and RQ's books.


def test_lanes_run_together_and_no_job_is_taken_beyond_the_slots(
    redis_url: str, redis: Redis
) -> None:
    jobs = enqueue(redis_url, 3)
    engine = _HeldEngine()

    with working(redis_url, engine, concurrency=2):
        assert {engine.next(), engine.next()} == set(jobs[:2])
        assert redis.llen(queue_key("auto")) == 1
        engine.release()
        assert engine.next() == jobs[2]


def test_queues_are_emptied_by_priority(redis_url: str) -> None:
    [low] = enqueue(redis_url, priority="low")
    [auto] = enqueue(redis_url)
    [high] = enqueue(redis_url, priority="high")
    engine = _QuickEngine()

    run_worker(redis_url, lambda: engine, burst=True)

    assert [engine.next() for _ in range(3)] == [high, auto, low]


def test_rq_sees_running_lanes_and_who_runs_them(redis_url: str, redis: Redis) -> None:
    jobs = enqueue(redis_url, 2)
    engine = _HeldEngine()

    with working(redis_url, engine):
        until(lambda: redis.scard("rq:worker:w:executions") == 2)
        worker = seen(redis)
        executions = worker.get_current_executions()
        assert worker.get_state() == "busy"
        assert {execution.job_id for execution in executions} == set(jobs)
        started = StartedJobRegistry(QUEUES["auto"], connection=redis)
        assert set(started.get_job_ids()) == set(jobs)
        assert [status(redis, job) for job in jobs] == [JobStatus.STARTED] * 2


def test_rq_sees_what_finished_and_forgets_it_soon(
    redis_url: str, redis: Redis
) -> None:
    [job_id] = enqueue(redis_url)

    with working(redis_url, _QuickEngine()):
        until(lambda: redis.hget("rq:worker:w", "successful_job_count") == b"1")
        assert state(redis) == "idle"
        assert seen(redis).get_current_executions() == []

    job = Job.fetch(job_id, connection=redis, serializer=JSONSerializer)
    assert job.get_status() is JobStatus.FINISHED
    assert job.started_at
    assert job.ended_at
    assert job.started_at <= job.ended_at
    assert FinishedJobRegistry(QUEUES["auto"], connection=redis).get_job_ids() == [
        job_id
    ]
    assert StartedJobRegistry(QUEUES["auto"], connection=redis).get_job_ids() == []
    assert 0 < redis.ttl(job.key) <= 60
    assert not redis.exists(f"rq:results:{job_id}")
    assert list(redis.scan_iter("rq:execution*")) == []


def test_a_lane_that_raises_fails_its_job_alone(redis_url: str, redis: Redis) -> None:
    bad, good = enqueue(redis_url, 2)

    def act(job_id: str) -> None:
        if job_id == bad:
            raise ValueError("no such fetch")

    with working(redis_url, _QuickEngine(act)):
        until(lambda: redis.hget("rq:worker:w", "failed_job_count") == b"1")
        until(lambda: status(redis, good) is JobStatus.FINISHED)

    result = LaneJobClass.fetch(bad, connection=redis).latest_result()
    assert result is not None
    assert "ValueError: no such fetch" in (result.exc_string or "")
    assert FailedJobRegistry(QUEUES["auto"], connection=redis).get_job_ids() == [bad]


def test_a_job_that_was_taken_for_dead_and_finished_is_no_failure(
    redis_url: str, redis: Redis
) -> None:
    [job_id] = enqueue(redis_url)
    engine, queue = _HeldEngine(), JobQueue(redis_url)

    with working(redis_url, engine):
        until(lambda: status(redis, job_id) is JobStatus.STARTED)
        queue._abandon([job_id], "its worker died")
        queue._client.close()
        engine.release()
        until(lambda: status(redis, job_id) is JobStatus.FINISHED)

    assert FailedJobRegistry(QUEUES["auto"], connection=redis).get_job_ids() == []


def test_burst_goes_on_for_what_lanes_enqueue(redis_url: str, redis: Redis) -> None:
    [first] = enqueue(redis_url)

    def act(job_id: str) -> None:
        if job_id == first:
            enqueue(redis_url, 2)

    engine = _QuickEngine(act)
    assert run_worker(redis_url, lambda: engine, burst=True) == 0

    finished = FinishedJobRegistry(QUEUES["auto"], connection=redis)
    assert finished.get_job_count() == 3
    assert engine.closed.is_set()
    assert registered(redis) == set()


def test_running_executions_are_kept_alive(redis_url: str, redis: Redis) -> None:
    [job_id] = enqueue(redis_url)

    with working(redis_url, _HeldEngine()) as worker:
        until(lambda: status(redis, job_id) is JobStatus.STARTED)
        [execution] = seen(redis).get_current_executions()
        registry = StartedJobRegistry(QUEUES["auto"], connection=redis)
        redis.zadd(registry.key, {execution.composite_key: 1}, xx=True)
        redis.expire(execution.key, 1000)
        redis.expire(worker.key, 1000)

        worker._books._beat_due = 0.0  # instead of ten seconds

        until(lambda: redis.ttl(worker.key) <= 120)
        assert redis.ttl(execution.key) <= 70
        score = redis.zscore(registry.key, execution.composite_key)
        assert isinstance(score, float)
        assert score > time.time()


def test_a_suspended_worker_takes_nothing_until_it_is_resumed(
    redis_url: str, redis: Redis
) -> None:
    suspend(redis)
    [job_id] = enqueue(redis_url)
    engine = _HeldEngine()

    with working(redis_url, engine):
        until(lambda: state(redis) == "suspended")
        assert redis.llen(queue_key("auto")) == 1
        resume(redis)
        assert engine.next() == job_id
        until(lambda: state(redis) == "busy")


# Poison.


def test_jobs_that_are_no_lanes_do_not_stop_the_others(
    redis_url: str, redis: Redis, tmp_path: Path
) -> None:
    """Faults row 80: as RQ's default serializer makes them, and by other names."""
    foreign = Queue(QUEUES["auto"], connection=redis)
    pickled = foreign.enqueue("os.mkdir", str(tmp_path / "pickled"))
    forbidden = Queue(QUEUES["auto"], connection=redis, serializer=JSONSerializer)
    named = forbidden.enqueue("os.mkdir", str(tmp_path / "named"))
    [unreadable] = enqueue(redis_url)
    redis.hset(LaneJobClass.key_for(unreadable), "created_at", "yesterday")
    redis.set(LaneJobClass.key_for("text"), "no hash")
    redis.rpush(queue_key("auto"), "text", "gone", "not an id!", b"\xff\xfe")
    [good] = enqueue(redis_url)
    engine = _QuickEngine()

    assert run_worker(redis_url, lambda: engine, burst=True) == 0

    assert engine.next() == good
    assert engine.begun.empty()
    refused = [pickled.id, named.id, unreadable]
    failed = FailedJobRegistry(QUEUES["auto"], connection=redis)
    assert sorted(failed.get_job_ids()) == sorted(refused)
    for job_id in refused:
        result = LaneJobClass.fetch(job_id, connection=redis).latest_result()
        assert result is not None
        assert "is refused" in (result.exc_string or "")
        assert redis.ttl(f"rq:results:{job_id}") > 0
    assert list(tmp_path.iterdir()) == []


# Commands.


def test_stop_job_ends_that_lane_and_no_other(redis_url: str, redis: Redis) -> None:
    jobs = enqueue(redis_url, 3)

    with working(redis_url, _HeldEngine()):
        until(lambda: redis.scard("rq:worker:w:executions") == 3)
        send_stop_job_command(redis, jobs[1], serializer=JSONSerializer)
        until(lambda: status(redis, jobs[1]) is JobStatus.STOPPED)
        assert status(redis, jobs[0]) is JobStatus.STARTED
        [execution] = [
            execution
            for execution in seen(redis).get_current_executions()
            if execution.job_id == jobs[2]
        ]
        send_stop_execution_command(redis, jobs[2], execution.id)
        until(lambda: status(redis, jobs[2]) is JobStatus.STOPPED)
        assert status(redis, jobs[0]) is JobStatus.STARTED


def test_strange_commands_are_survived_and_shutdown_is_obeyed(
    redis_url: str, redis: Redis
) -> None:
    with working(redis_url, _HeldEngine()) as worker:
        until(lambda: redis.pubsub_numsub("rq:pubsub:w")[0][1] == 1)
        redis.publish("rq:pubsub:w", "{")
        send_command(redis, "w", "kill-horse")
        send_command(redis, "w", "stop-job", job_id="other")
        send_shutdown_command(redis, "w")
        until(lambda: worker.stopping)


# Redis away.


def test_without_redis_at_the_start_the_worker_is_unreachable(tmp_path: Path) -> None:
    with pytest.raises(Unreachable):
        run_worker(f"unix://{tmp_path}/none.sock", _QuickEngine)


def test_an_engine_that_cannot_start_is_the_error_of_the_worker(
    redis_url: str, redis: Redis
) -> None:
    class _BrokenEngine(_QuickEngine):
        @override
        async def start(self) -> None:
            raise StartError("no store")

    with pytest.raises(StartError, match="no store"):
        run_worker(redis_url, _BrokenEngine)
    assert registered(redis) == set()


def test_a_worker_outlives_redis_and_joins_an_empty_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "workers")
    engine = _HeldEngine()
    server = EmbeddedServer.start(tmp_path / "redis", die_with_parent=True)
    [lost] = enqueue(server.url)

    def told(words: str) -> int:
        return sum(words in record.getMessage() for record in caplog.records)

    with working(server.url, engine):
        assert engine.next() == lost
        server.stop()
        until(lambda: told("does not answer"))
        engine.release()
        shutil.rmtree(tmp_path / "redis" / "appendonlydir")
        with (
            EmbeddedServer.start(tmp_path / "redis", die_with_parent=True) as again,
            Redis.from_url(again.url) as redis,
        ):
            [job_id] = enqueue(again.url)
            assert engine.next() == job_id
            until(lambda: status(redis, job_id) is JobStatus.FINISHED)
            until(lambda: "rq:worker:w" in registered(redis))
            until(lambda: redis.pubsub_numsub("rq:pubsub:w")[0][1] == 1)
            assert (told("does not answer"), told("answers again")) == (1, 1)


def test_a_worker_leaves_in_time_though_redis_is_away(tmp_path: Path) -> None:
    engine = _HeldEngine()
    with EmbeddedServer.start(tmp_path / "redis", die_with_parent=True) as server:
        enqueue(server.url)
        connection = rq_client(server.url, socket_timeout=10)
        worker = FetchWorker(engine, connection, name="w")
        thread = threading.Thread(target=worker.work)
        thread.start()
        engine.next()

    worker.stop()

    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert engine.closed.is_set()
    connection.close()


# Signals, in processes.

PROGRAM = """
import asyncio, datetime, sys
from workers.worker import run_worker

class Engine:
    async def start(self):
        self.drained = asyncio.Event()
    async def perform(self, scope, uid, job_id):
        print("begun", flush=True)
        await (asyncio.Event() if stubborn else self.drained).wait()
    async def drain(self):
        print("draining", flush=True)
        self.drained.set()
    async def aclose(self):
        pass

url, stubborn, grace = sys.argv[1], sys.argv[2] == "stubborn", float(sys.argv[3])
sys.exit(run_worker(url, Engine, grace=datetime.timedelta(seconds=grace)))
"""


@contextmanager
def process(
    url: str, manner: str = "polite", grace: float = 30
) -> Iterator[subprocess.Popen[str]]:
    arguments = [sys.executable, "-c", PROGRAM, url, manner, str(grace)]
    child = subprocess.Popen(
        arguments, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_worker_leaves_at_the_first_signal(
    redis_url: str, redis: Redis, number: signal.Signals
) -> None:
    with process(redis_url) as child:
        [job_id] = enqueue(redis_url)
        assert line(child) == "begun"
        until(lambda: status(redis, job_id) is JobStatus.STARTED)
        send_stop_job_command(redis, job_id, serializer=JSONSerializer)
        until(lambda: status(redis, job_id) is JobStatus.STOPPED)

        child.send_signal(number)

        assert child.wait(PATIENCE) == 0
    assert registered(redis) == set()


def test_running_lanes_are_drained_and_nothing_is_put_back(
    redis_url: str, redis: Redis
) -> None:
    jobs = enqueue(redis_url, 2)
    with process(redis_url) as child:
        assert [line(child), line(child)] == ["begun", "begun"]

        child.send_signal(signal.SIGTERM)

        assert line(child) == "draining"
        assert child.wait(PATIENCE) == 0
    assert [status(redis, job) for job in jobs] == [JobStatus.FINISHED] * 2
    assert redis.llen(queue_key("auto")) == 0
    assert registered(redis) == set()
    assert list(redis.scan_iter("rq:execution*")) == []


def test_lanes_that_go_on_are_cancelled_within_the_grace(
    redis_url: str, redis: Redis
) -> None:
    [job_id] = enqueue(redis_url)
    with process(redis_url, "stubborn", grace=1) as child:
        assert line(child) == "begun"

        child.send_signal(signal.SIGTERM)

        assert child.wait(PATIENCE) == 0
    result = LaneJobClass.fetch(job_id, connection=redis).latest_result()
    assert result is not None
    assert result.exc_string == "the worker left before the lane had ended"


def test_lanes_are_cancelled_when_the_engine_cannot_drain_them(
    redis_url: str, redis: Redis
) -> None:
    class _LeakyEngine(_HeldEngine):
        @override
        async def drain(self) -> None:
            raise OSError("the store is gone")

    [job_id] = enqueue(redis_url)
    with working(redis_url, _LeakyEngine(), grace=timedelta(minutes=10)):
        until(lambda: status(redis, job_id) is JobStatus.STARTED)

    assert status(redis, job_id) is JobStatus.FAILED


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_second_signal_ends_the_worker_at_once(
    redis_url: str, number: signal.Signals, code: int
) -> None:
    enqueue(redis_url)
    with process(redis_url, "stubborn", grace=600) as child:
        assert line(child) == "begun"
        child.send_signal(signal.SIGTERM)
        assert line(child) == "draining"

        def ended() -> bool:  # what comes within a second is the first one's echo
            child.send_signal(number)
            return child.poll() is not None

        until(ended)
        assert child.returncode == code


STOCK = """
import sys, types
fetch = types.ModuleType("workers.fetch")
fetch.perform = lambda scope, uid: print("performed", scope, uid, flush=True)
sys.modules["workers.fetch"] = fetch
import workers
workers.fetch = fetch
from rq.cli import main
main(prog_name="rq")
"""
SAFE = ["--job-class", "broker.queue.LaneJobClass"]  # brings the serializer along
PLAIN = ["--serializer", "rq.serializers.JSONSerializer"]


def run_stock(url: str, *flags: str) -> str:
    """Run ``rq worker`` as it is, but for a lane that only prints."""
    command = [sys.executable, "-c", STOCK, "worker", "--url", url, "--burst", *flags]
    ended = subprocess.run(
        [*command, *QUEUES.values()],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return ended.stdout


@pytest.mark.parametrize("flags", [SAFE, PLAIN])
def test_stock_rq_workers_run_lane_jobs(
    redis_url: str, redis: Redis, flags: list[str]
) -> None:
    [job_id] = enqueue(redis_url)

    output = run_stock(redis_url, *flags)

    assert f"performed podcasts {job_id.partition('-')[0]}" in output
    assert status(redis, job_id) is JobStatus.FINISHED


def test_stock_rq_workers_with_our_job_class_refuse_other_jobs(
    redis_url: str, redis: Redis, tmp_path: Path
) -> None:
    queue = Queue(QUEUES["auto"], connection=redis, serializer=JSONSerializer)
    refused = queue.enqueue("os.mkdir", str(tmp_path / "made"), retry=Retry(max=3))
    [good] = enqueue(redis_url)

    run_stock(redis_url, *SAFE)

    assert status(redis, refused.id) is JobStatus.FAILED
    assert status(redis, good) is JobStatus.FINISHED
    assert not (tmp_path / "made").exists()
