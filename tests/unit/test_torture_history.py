"""What is written down in ``torture events``, and what is drawn for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.torture.history import History, Progress, has_ended, read
from tests.torture.log import Changed, Follows, Leased, Published, Registered, entries
from tests.torture.mischief import FAULTS, Kind, plan
from tests.torture.trap import Trap


def test_the_append_only_file_tells_what_happened_in_which_order(
    tmp_path: Path,
) -> None:
    uid = "0" * 32
    events = f"bgfetch:torture:fetch:{uid}:events"
    stream = "bgfetch:torture:events"
    commands = [
        ["SELECT", "0"],
        ["MULTI"],
        [
            "XADD",
            stream,
            "1-0",
            "delivery",
            f"{uid}/x",
            "message",
            "\r\n*\0",
            "id",
            "i",
        ],
        ["HSET", events, "x", "1-0 3 2 0 w"],
        ["EXEC"],
        ["HSET", "bgfetch:other:fetch:0:events", "x|s", "held 0 1 n h:7:a"],
        [
            "HSET",
            events,
            "x|s",
            "held 0 1 n h:7:a",
            "x|s|history",
            "?",
            "w",
            "1 3 2 0 -",
        ],
        ["HSET", f"bgfetch:torture:fetch:{uid}", "seq", "1", "createdAt", "1"],
        ["ZADD", "bgfetch:torture:subscriber:s:leases", "5", f"1-0/{uid}/x"],
        ["HSET", events, "x|s", "acked 0 1 n h:7:a extra"],
    ]
    path = tmp_path / "log"
    with path.open("wb") as log:
        for words in commands:
            log.write(f"*{len(words)}\r\n".encode())
            for word in words:
                log.write(f"${len(word)}\r\n{word}\r\n".encode())
        log.write(b"*3\r\n$4\r\nHS")  # killed while it wrote

    found = list(entries(path, "torture"))

    delivery = f"{uid}/x/s"
    assert found == [
        Published(f"{uid}/x"),
        Follows(f"{uid}/x", f"{uid}/w"),
        Changed(delivery, "held", 1, "n", "h:7:a"),
        Registered(uid),
        Leased(delivery),
        Changed(delivery, "acked", 1, "n", "h:7:a"),
    ]
    assert isinstance(found[-1], Changed)
    assert found[-1].process == 7


def test_what_a_process_wrote_is_read_under_its_name(tmp_path: Path) -> None:
    history = History(tmp_path / "42.history")
    history.write("start", "f/x/s", 3)

    [found] = read(tmp_path)

    assert (found.process, found.what, found.words) == (42, "start", ("f/x/s", "3"))


def test_progress_counts_what_was_written_so_far(tmp_path: Path) -> None:
    publisher, consumer = (History(tmp_path / f"{pid}.history") for pid in (1, 2))
    publisher.write("answer", 1, "-")
    publisher.write("answer", 2, "backgroundfetchabort")
    progress = Progress(tmp_path)
    progress.look()
    for what, delivery in (("start", "x"), ("start", "y"), ("done", "x")):
        consumer.write(what, f"f/{delivery}/s", 1)

    assert (progress.published, progress.handled) == (1, 0)
    progress.look()
    assert (progress.published, progress.handled, progress.begun[2]) == (1, 1, 1)


def test_what_a_process_was_told_of_a_delivery_is_found(tmp_path: Path) -> None:
    history = History(tmp_path / "42.history")
    history.write("start", "f/x/s", 3)
    before = has_ended(tmp_path, 42, "f/x/s")
    history.write("lost", "f/x/s", 3, "n1")

    assert (before, has_ended(tmp_path, 42, "f/x/s")) == (False, True)
    assert not has_ended(tmp_path, 42, "f/y/s")


def test_a_trap_catches_one_process_and_keeps_others_from_what_it_was_to_handle(
    tmp_path: Path,
) -> None:
    trap = Trap(tmp_path)
    trap.set()
    child = subprocess.Popen(
        [sys.executable, "-c", _MEET, os.fspath(tmp_path)],
        cwd=Path(__file__).parents[2],
    )
    with child:
        os.waitid(os.P_PID, child.pid, os.WSTOPPED)
        caught = trap.caught()
        kept, other = trap.keeps("f/x/s"), trap.keeps("f/y/s")
        child.send_signal(signal.SIGCONT)

    assert caught == (child.pid, "f/x/s")
    assert (kept, other, child.returncode) == (True, False, 0)
    assert not trap.withdraw()
    trap.release()
    assert not trap.keeps("f/x/s")
    assert not trap.meet("f/x/s")


_MEET = """
import sys
from pathlib import Path
from tests.torture.trap import Trap
trap = Trap(Path(sys.argv[1]))
raise SystemExit(0 if trap.meet("f/x/s") and not trap.keeps("f/x/s") else 1)
"""


def test_a_seed_repeats_the_faults_and_has_each_kind() -> None:
    steps = plan(7, 1, 24, FAULTS)

    assert steps == plan(7, 1, 24, FAULTS) != plan(7, 2, 24, FAULTS)
    assert {step.kind for step in steps} == set(FAULTS) < set(Kind)
    assert [step.share for step in steps] == sorted(step.share for step in steps)
