"""``bgfetch worker`` and ``subscribe``: their signals and exit codes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.embedded import EmbeddedServer
from tests.acceptance.conftest import HostedOrigin
from tests.acceptance.machine import Machine

SERVICE_WORKER = """
from workers import BackgroundFetchEvent, ServiceWorker

sw = ServiceWorker("podcasts")
title = "Podcasts"


@sw.on("backgroundfetchabort")
async def aborted(event: BackgroundFetchEvent) -> None:
    print("heard of", event.registration.id, "https://h/a?sig=s3cr3t", flush=True)
    if event.attempt == 1:
        raise RuntimeError("cannot read https://h/a?sig=s3cr3t")
"""


@pytest.fixture
def server(machine: Machine) -> Iterator[EmbeddedServer]:
    """A Redis that every command of the machine is told of."""
    with EmbeddedServer.start(machine.home / "redis") as server:
        machine.environment["BGFETCH_REDIS_URL"] = server.url
        yield server


@pytest.mark.parametrize("arguments", [("worker",), ("worker", "--processes", "2")])
def test_a_worker_without_redis_ends_with_4_and_one_line(
    arguments: tuple[str, ...], machine: Machine
) -> None:
    (machine.home / "podcasts.py").write_text(SERVICE_WORKER)

    ended = machine.run(*arguments)

    assert (ended.code, ended.out) == (4, "")
    assert ended.err.count("\n") == 1
    assert "set BGFETCH_REDIS_URL, or run `bgfetch up`" in ended.err


@pytest.mark.parametrize(
    "verb",
    [
        ("worker",),
        ("worker", "--processes", "2"),
        ("subscribe", "podcasts:sw"),
        ("subscribe", "podcasts:sw", "--processes", "2"),
        ("up", "podcasts:sw"),
    ],
)
def test_a_redis_that_does_not_answer_at_the_start_is_4_too(
    verb: tuple[str, ...], machine: Machine
) -> None:
    (machine.home / "podcasts.py").write_text(SERVICE_WORKER)
    nowhere = f"unix://{machine.home}/no.sock"

    ended = machine.run(*verb, "--redis-url", nowhere, "--log-level", "error")

    assert (ended.code, ended.out) == (4, "")
    assert ended.err.count("\n") == 1
    assert f"no Redis at {nowhere}" in ended.err


def test_a_running_worker_comes_back_when_redis_does(
    machine: Machine, hosted: HostedOrigin
) -> None:
    hosted.origin.add("/ep-5.mp3", b"episode")
    first = EmbeddedServer.start(machine.home / "redis")
    machine.environment["BGFETCH_REDIS_URL"] = first.url

    with machine.running("worker") as worker:
        worker.says("worker_starts")
        done = machine.run("fetch", hosted.origin.url("/ep-5.mp3"), "--wait")
        first.stop()
        worker.says("reconnect|away|lost|waits|Redis")
        with EmbeddedServer.start(machine.home / "redis"):
            again = machine.run("fetch", hosted.origin.url("/ep-5.mp3"), "--wait")
            worker.process.terminate()
            code = worker.ends()

    assert (done.code, again.code, code) == (0, 0, 0)
    assert "Traceback" not in worker.text
    assert len(hosted.origin.log) == 2


def test_a_burst_ends_by_itself_when_there_is_no_more_to_do(
    machine: Machine, hosted: HostedOrigin, server: EmbeddedServer
) -> None:
    hosted.origin.add("/ep-5.mp3", b"episode")
    machine.run("fetch", hosted.origin.url("/ep-5.mp3"), "--id", "ep-5")

    burst = machine.run("worker", "--burst", "--processes", "2")

    assert burst.code == 0
    assert machine.run("watch", "ep-5").out == "success\n"


def test_of_several_worker_processes_a_dead_one_is_replaced_and_all_end_together(
    machine: Machine, server: EmbeddedServer
) -> None:
    with machine.running("worker", "--processes", "2") as workers:
        workers.says("worker_starts")
        workers.says("worker_starts")
        victim = next(
            each for each in machine.processes("worker") if each != workers.process.pid
        )
        os.kill(victim, signal.SIGKILL)
        workers.says(r"worker ended unexpectedly \(signal 9\)")
        workers.says("worker_starts")
        workers.interrupt()
        code = workers.ends()

    assert code == 0
    assert machine.processes("worker") == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ("podcasts:worker",),
            "module 'podcasts' has no attribute 'worker' (has: sw, ",
        ),
        (("podcasts:sw", "--scope", "music"), "scope 'podcasts', not 'music'"),
    ],
)
def test_a_target_that_cannot_be_run_ends_with_3_and_what_was_found(
    arguments: tuple[str, ...], told: str, machine: Machine
) -> None:
    (machine.home / "podcasts.py").write_text(SERVICE_WORKER)

    ended = machine.run("subscribe", *arguments)

    assert (ended.code, ended.out) == (3, "")
    assert told in ended.err
    assert ended.err.count("\n") == 1


def test_a_target_that_only_its_processes_can_judge_ends_with_3_as_well(
    machine: Machine, server: EmbeddedServer
) -> None:
    ended = machine.run("subscribe", "podcasts:sw", "--processes", "2")

    assert ended.code == 3
    assert "no module 'podcasts'" in ended.err


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_subscriber_logs_what_became_of_each_event(
    processes: str, machine: Machine, server: EmbeddedServer
) -> None:
    app = machine.home / "app"
    app.mkdir()
    (app / "podcasts.py").write_text(SERVICE_WORKER)
    machine.environment |= {
        "BGFETCH_SCOPE": "podcasts",
        "BGFETCH_REDELIVERY_BACKOFF": "0",
    }

    with machine.running(
        *("subscribe", "podcasts:sw", "--app-dir", "app", "--grace", "5"),
        *("--log-format", "json", "--processes", processes),
    ) as subscriber:
        subscriber.says("subscribed")
        machine.run("fetch", "https://cdn.example/a", "--id", "ep-5")
        machine.run("abort", "ep-5")
        subscriber.says('"attempt": 1, .*"event": "event_failed"')
        subscriber.says('"attempt": 2, .*"event": "event_acked"')
        subscriber.process.terminate()
        code = subscriber.ends()

    assert code == 0
    assert subscriber.text.count("heard of ep-5") == 2
    logged = [line for line in subscriber.text.splitlines() if line.startswith("{")]
    assert not [line for line in logged if "s3cr3t" in line]


def test_a_store_that_cannot_be_used_is_one_line(
    machine: Machine, server: EmbeddedServer
) -> None:
    (machine.home / "file").touch()

    ended = machine.run("worker", "--store", str(machine.home / "file" / "store"))

    assert ended.code == 1
    assert "Traceback" not in ended.err
    assert str(Path("file") / "store") in ended.err


def test_a_webhook_posts_an_event_and_ends_in_order(
    server: EmbeddedServer, machine: Machine, hosted: HostedOrigin
) -> None:
    hosted.origin.add("/hook", b"", status=204)
    machine.environment["BGFETCH_WEBHOOK_SECRET"] = "whsec_" + "a2V5" * 8
    with machine.running(
        *("webhook", hosted.origin.url("/hook"), "--scope", "podcasts"),
        *("--allow-network", "loopback"),
    ) as webhook:
        webhook.says("subscribed")
        machine.run("fetch", "https://cdn.example/1", "-s", "podcasts", "--id", "x")
        machine.run("abort", "x", "--scope", "podcasts")
        webhook.says("event_acked")
        webhook.process.terminate()
        code = webhook.ends()

    assert code == 0
    assert [seen.method for seen in hosted.origin.log] == ["POST"]


def test_a_webhook_without_a_secret_ends_with_3_and_tells_how_to_give_one(
    machine: Machine,
) -> None:
    ended = machine.run("webhook", "https://h.example/", "--scope", "podcasts")

    assert ended.code == 3
    assert "set BGFETCH_WEBHOOK_SECRET or --secret-file" in ended.err
