"""``bgfetch subscribe`` as people run it: how it ends, whatever its listeners do."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from broker import blocking
from broker.embedded import EmbeddedServer
from tests.acceptance.machine import DEADLINE, Machine, Running
from workers.cli.reload import stamps

HANGS = """
import asyncio, threading, time
from workers import ServiceWorker

sw = ServiceWorker("podcasts")


@sw.on("backgroundfetchabort")
{kind} aborted(event):
    print("attempt", event.attempt, flush=True)
    if event.attempt == 1:
        {hang}
"""


@pytest.fixture
def server(machine: Machine) -> Iterator[EmbeddedServer]:
    """A Redis that every command of the machine is told of."""
    with EmbeddedServer.start(machine.home / "redis") as server:
        machine.environment["BGFETCH_REDIS_URL"] = server.url
        machine.environment["BGFETCH_SCOPE"] = "podcasts"
        yield server


@pytest.fixture
def producer(server: EmbeddedServer) -> Iterator[blocking.Blocking]:
    """A producer: commands would take longer to start than all else takes."""
    with blocking.connect(server.url, scope="podcasts") as manager:
        yield manager


def becomes_well(machine: Machine, well: bool) -> None:
    """Ask until the answer is that."""
    until = time.monotonic() + DEADLINE
    while (machine.run("health", "--role", "subscriber").code == 0) is not well:
        assert time.monotonic() < until


def test_a_subscriber_whose_event_loop_is_blocked_is_not_well(
    machine: Machine, producer: blocking.Blocking
) -> None:
    """Its lease is extended all the same (R24)."""
    write(machine, "async def", "time.sleep(3600)")
    with machine.running("subscribe", "podcasts:sw", "--grace", "0") as subscriber:
        subscriber.says("subscribed")
        becomes_well(machine, True)
        abort_something(producer)
        subscriber.says("attempt 1")
        becomes_well(machine, False)


KILLED = """
import os, signal
from workers import ServiceWorker

sw = ServiceWorker("podcasts")


@sw.on("backgroundfetchabort")
async def aborted(event):
    async with event.once() as first:
        print("attempt", event.attempt, "first", first, flush=True)
        {inside}
    {after}
"""
KILL = "if event.attempt == 1: os.kill(os.getpid(), signal.SIGKILL)"


def write(machine: Machine, kind: str, hang: str) -> None:
    (machine.home / "podcasts.py").write_text(HANGS.format(kind=kind, hang=hang))


def abort_something(producer: blocking.Blocking) -> None:
    assert producer.fetch("ep-5", "https://cdn.example/a").abort()


@pytest.mark.parametrize(
    ("kind", "hang"),
    [
        ("def", "threading.Event().wait()"),
        ("async def", "await asyncio.Event().wait()"),
    ],
)
def test_after_the_grace_a_listener_that_hangs_is_not_waited_for(
    kind: str, hang: str, machine: Machine, producer: blocking.Blocking
) -> None:
    """R20, faults 86 and 90: its delivery is handed back, uncounted, and goes on."""
    write(machine, kind, hang)
    with machine.running("subscribe", "podcasts:sw", "--grace", "0.2") as first:
        first.says("subscribed")
        abort_something(producer)
        first.says("attempt 1")
        first.process.terminate()
        code = first.ends()
    with machine.running("subscribe", "podcasts:sw") as second:
        second.says("attempt 2")
        second.says("event_acked")
        second.process.terminate()
        second.ends()

    assert code == 0
    assert "event_handed_back" in first.text
    assert "Traceback" not in first.text + second.text


def interrupt_until_it_ends(running: Running) -> int:
    """Press Ctrl-C as an impatient person does."""
    until = time.monotonic() + DEADLINE
    while time.monotonic() < until:
        running.process.send_signal(signal.SIGINT)
        try:
            running.process.wait(0.3)
        except subprocess.TimeoutExpired:
            continue
        return running.ends()
    raise AssertionError(f"it did not end:\n{running.text}")


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize("hang", ["await asyncio.Event().wait()", "time.sleep(3600)"])
def test_a_second_ctrl_c_ends_it_at_once_though_a_listener_blocks_the_event_loop(
    hang: str, processes: str, machine: Machine, producer: blocking.Blocking
) -> None:
    """Nobody waits for the grace, here an hour."""
    write(machine, "async def", hang)
    with machine.running(
        *("subscribe", "podcasts:sw", "--grace", "1h", "--processes", processes)
    ) as subscriber:
        subscriber.says("subscribed")
        abort_something(producer)
        subscriber.says("attempt 1")
        code = interrupt_until_it_ends(subscriber)

    assert code == 130
    assert machine.all_end()


@pytest.mark.parametrize(
    ("inside", "after", "first"), [(KILL, "pass", True), ("pass", KILL, False)]
)
def test_a_kill_leaves_undone_what_was_under_way_and_nothing_else(
    inside: str, after: str, first: bool, machine: Machine, producer: blocking.Blocking
) -> None:
    """Faults 86 and 88, guarantee 3: the block repeats unless it was completed."""
    (machine.home / "podcasts.py").write_text(KILLED.format(inside=inside, after=after))
    with machine.running("subscribe", "podcasts:sw", "--processes", "2") as subscriber:
        subscriber.says("subscribed")
        subscriber.says("subscribed")
        abort_something(producer)
        subscriber.says("attempt 1 first True")
        subscriber.says(f"attempt 2 first {first}")
        subscriber.process.terminate()
        assert subscriber.ends() == 0
    assert "event_acked" in subscriber.text


RELOADED = """
from helper import WORD
from workers import ServiceWorker

sw = ServiceWorker("podcasts")


@sw.on("backgroundfetchclick")
async def clicked(event):
    print("says", WORD, flush=True)
"""


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_change_of_the_code_is_taken_up_and_an_error_waits_for_the_next(
    processes: str, machine: Machine, producer: blocking.Blocking
) -> None:
    app = machine.home / "app"
    app.mkdir()
    (app / "podcasts.py").write_text(RELOADED)
    helper = app / "helper.py"
    helper.write_text("WORD = 'one'\n")
    fetch = producer.fetch("ep-5", "https://cdn.example/a")
    with machine.running(
        *("subscribe", "podcasts:sw", "--app-dir", "app", "--reload"),
        *("--processes", processes),
    ) as subscriber:
        subscriber.says("subscribed")
        fetch.click()
        subscriber.says("says one")
        helper.write_text("WORD = 'the second'\n")
        subscriber.says(r"changed: helper\.py")
        subscriber.says("subscribed")
        fetch.click()
        subscriber.says("says the second")
        (app / "new.py").write_text("")
        helper.write_text("WORD = \n")
        subscriber.says("SyntaxError.*helper.py")
        subscriber.says("starts again when a file")
        helper.write_text("from new import WORD\n")
        (app / "new.py").write_text("WORD = 'three'\n")
        subscriber.says("subscribed")
        fetch.click()
        subscriber.says("says three")
        subscriber.process.terminate()
        code = subscriber.ends()

    assert code == 0
    assert "Traceback" not in subscriber.text
    assert machine.all_end()


def test_what_others_installed_is_not_watched(machine: Machine) -> None:
    home = machine.home
    for place in (".git", "venv/lib", "node_modules/x", "pkg/__pycache__", "pkg/sub"):
        (home / place).mkdir(parents=True)
        (home / place / "module.py").touch()
    (home / "venv" / "pyvenv.cfg").touch()
    (home / "app.py").touch()
    (home / "notes.txt").touch()

    assert set(stamps(home)) == {"app.py", "pkg/sub/module.py"}
