"""``bgfetch demo``: it shows what it says, checks it, and leaves nothing behind."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.acceptance.machine import DEADLINE, Machine

KEPT_BY_RQ = {b"rq:clean_groups"}  # its lock, which ends by itself


@pytest.fixture
def place(machine: Machine) -> Iterator[Path]:
    """Where the demo puts its files; empty again at the end of every test."""
    place = machine.home / "tmp"
    place.mkdir()
    machine.environment["TMPDIR"] = str(place)
    yield place
    assert list(place.iterdir()) == []


class Terminal:
    """A terminal with the demo on it, and all that it has drawn there."""

    def __init__(self, machine: Machine) -> None:
        self.drawn = ""
        self._ours, theirs = pty.openpty()
        environment = machine.environment | {"TERM": "xterm-256color", "COLUMNS": "80"}
        environment.pop("NO_COLOR", None)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "workers.cli", "demo"],
            cwd=machine.home,
            env=environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def _read(self) -> bool:
        try:
            self.drawn += os.read(self._ours, 65536).decode(errors="replace")
        except OSError:  # the last who had it open has closed it
            return False
        return True

    def until(self, *texts: str) -> None:
        """Wait until all of this is drawn."""
        while not all(text in self.drawn for text in texts):
            assert self._read(), self.drawn

    def interrupt(self) -> int:
        """Send SIGINT, read to the end, and return the exit code."""
        self._process.send_signal(signal.SIGINT)
        while self._read():
            pass
        os.close(self._ours)
        return self._process.wait(DEADLINE)


def test_every_outcome_is_right_though_the_environment_would_lead_astray(
    machine: Machine, place: Path
) -> None:
    """Guarantees 1 to 8 at work, R1, R4, R7, R13, R14; it uses no server of others."""
    machine.environment |= {
        "BGFETCH_REDIS_URL": "redis://127.0.0.1:1/0",
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "BGFETCH_MAX_ATTEMPTS": "1",
        "BGFETCH_ALLOW_NETWORKS": "",
        "BGFETCH_STORE": "/nonexistent",
    }

    ended = machine.run("demo", "--once")

    assert (ended.code, ended.err) == (0, ""), ended.out
    assert "checks passed" in ended.out
    assert "\x1b" not in ended.out
    for event in ("success", "fail", "abort", "click"):
        assert f"backgroundfetch{event} of" in ended.out
    assert "is killed with SIGKILL" in ended.out
    assert "with If-Range" in ended.out


@pytest.mark.parametrize("moment", ["server", "start", "kill"])
def test_after_ctrl_c_nothing_is_left(
    machine: Machine, place: Path, moment: str
) -> None:
    """The fixtures look for processes and files that are left."""
    with machine.running("demo", "--once") as demo:
        demo.says(rf" s  {moment} ")
        demo.interrupt()
        code = demo.ends()

    assert code == 128 + signal.SIGINT
    assert "Traceback" not in demo.text


def test_what_a_killed_demo_left_is_gone_after_the_next(
    machine: Machine, place: Path
) -> None:
    """Its children let go with it; its files wait for the next start."""
    with machine.running("demo", "--once") as demo:
        demo.says(" s  start ")
        demo.process.kill()
        assert machine.all_end()
    left = list(place.iterdir())

    with machine.running("demo", "--once") as demo:
        demo.says(" s  origin ")
        remaining = list(place.iterdir())
        demo.interrupt()
        demo.ends()

    assert len(left) == len(remaining) == 1
    assert left != remaining


def test_a_database_with_keys_of_others_is_refused(
    machine: Machine, place: Path, redis_url: str
) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set("theirs", "1")

        ended = machine.run("demo", "--once", "--redis-url", redis_url)

        assert client.keys() == [b"theirs"]
    assert (ended.code, ended.out) == (3, "")
    assert ended.err.count("\n") == 1
    assert "'theirs'" in ended.err


def test_a_database_with_fetches_that_the_demo_would_take_is_refused(
    machine: Machine, place: Path, redis_url: str
) -> None:
    fetch = machine.run("fetch", "--redis-url", redis_url, "http://127.0.0.1:8080/file")

    ended = machine.run("demo", "--once", "--redis-url", redis_url)

    assert fetch.code == 0, fetch.err
    assert ended.code == 3
    assert "active fetches in scope 'default'" in ended.err


def test_a_named_database_is_left_as_it_was(
    machine: Machine, place: Path, redis_url: str
) -> None:
    with redis.Redis.from_url(redis_url) as client:
        with machine.running("demo", "--once", "--redis-url", redis_url) as demo:
            demo.says(" s  kill ")
            during = client.dbsize()
            demo.interrupt()
            demo.ends()

        assert during > 10
        assert set(client.keys()) <= KEPT_BY_RQ


def test_a_failed_check_is_told_with_the_last_words_of_the_processes(
    machine: Machine, place: Path
) -> None:
    with machine.running("demo", "--once") as demo:
        subscriber = demo.says(r"subscriber \(pid (\d+)\)")
        demo.says(" s  event ")
        os.kill(int(subscriber[1]), signal.SIGKILL)
        code = demo.ends()

    assert code == 1
    assert "FAILED: the story goes to its end" in demo.text
    assert "subscriber ended with exit code -9" in demo.text
    assert "worker-1: " in demo.text


def test_a_person_sees_bars_and_gets_the_terminal_back_after_ctrl_c(
    machine: Machine, place: Path
) -> None:
    terminal = Terminal(machine)
    terminal.until("season-1", "━", "\x1b[?25l")
    code = terminal.interrupt()

    assert code == 128 + signal.SIGINT
    assert terminal.drawn.rindex("\x1b[?25h") > terminal.drawn.rindex("\x1b[?25l")
