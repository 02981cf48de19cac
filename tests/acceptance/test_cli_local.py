"""A machine without Redis: ``fetch --wait`` and ``up`` bring what is missing."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.acceptance.conftest import HostedOrigin
from tests.acceptance.machine import Machine

EPISODE = os.urandom(300_000)
SERVICE_WORKER = """
from workers import BackgroundFetchEvent, ServiceWorker

sw = ServiceWorker("default")


@sw.on("backgroundfetchsuccess")
async def ended(event: BackgroundFetchEvent) -> None:
    print("heard of", event.registration.id, flush=True)


@sw.on("backgroundfetchclick")
async def clicked(event: BackgroundFetchEvent) -> None:
    await sw.clients.open_window("/latest-podcasts")
"""


def test_on_a_fresh_machine_fetch_saves_files_and_leaves_nothing_running(
    machine: Machine, hosted: HostedOrigin, tmp_path: Path
) -> None:
    hosted.origin.add("/ep-5.mp3", EPISODE)
    url = hosted.origin.url("/ep-5.mp3")

    ended = machine.run("fetch", url, f"{url}?again", "--output", str(tmp_path / "a b"))

    assert ended.code == 0
    assert ended.out.splitlines() == [
        str(tmp_path / "a b" / "ep-5.mp3"),
        str(tmp_path / "a b" / "ep-5-2.mp3"),
    ]
    for name in ("ep-5.mp3", "ep-5-2.mp3"):
        assert (tmp_path / "a b" / name).read_bytes() == EPISODE
    assert ended.err.startswith("bgfetch: no server was running: one runs until")
    assert "Traceback" not in ended.err
    assert machine.processes() == []


def test_a_private_address_is_refused_by_default_and_nothing_is_started(
    machine: Machine, hosted: HostedOrigin
) -> None:
    del machine.environment["BGFETCH_ALLOW_NETWORKS"]

    ended = machine.run("fetch", hosted.origin.url("/x"), "--wait")

    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("bgfetch: TypeError: ")
    assert ended.err.count("\n") == 1
    assert hosted.origin.connections == 0
    assert not (machine.home / "data").exists()


def test_a_fetch_that_fails_tells_why_and_saves_only_what_succeeded(
    machine: Machine, hosted: HostedOrigin, tmp_path: Path
) -> None:
    hosted.origin.add("/ep-5.mp3", EPISODE)
    urls = [hosted.origin.url("/ep-5.mp3"), hosted.origin.url("/missing")]

    ended = machine.run("fetch", *urls, "--output", str(tmp_path))

    assert ended.code == 1
    assert f"{urls[1]}: bad-status 404" in ended.err
    assert ": bad-status, " in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["ep-5.mp3"]


def test_a_coded_file_is_saved_decoded_and_with_raw_as_it_was_sent(
    machine: Machine, hosted: HostedOrigin, tmp_path: Path
) -> None:
    """One that cannot be decoded is an error, and does not keep others back."""
    coded, gzipped = gzip.compress(EPISODE), {"Content-Encoding": "gzip"}
    hosted.origin.add("/broken.mp3", coded[:-1], headers=gzipped)
    hosted.origin.add("/ep-5.mp3", coded, headers=gzipped)
    urls = [hosted.origin.url("/broken.mp3"), hosted.origin.url("/ep-5.mp3")]

    decoded = machine.run("fetch", *urls, "--output", str(tmp_path / "decoded"))
    raw = machine.run("fetch", *urls, "--raw", "--output", str(tmp_path / "raw"))

    assert (decoded.code, raw.code) == (1, 0)
    assert "ends before its gzip does; read it raw" in decoded.err
    [saved] = (tmp_path / "decoded").iterdir()
    assert (saved.name, saved.read_bytes()) == ("ep-5.mp3", EPISODE)
    assert (tmp_path / "raw" / "ep-5.mp3").read_bytes() == coded
    assert (tmp_path / "raw" / "broken.mp3").read_bytes() == coded[:-1]


def test_after_ctrl_c_nothing_runs_and_the_same_command_goes_on(
    machine: Machine, hosted: HostedOrigin, tmp_path: Path
) -> None:
    """Guarantee 7: the second run asks for the rest of the bytes."""
    machine.environment["BGFETCH_CHECKPOINT_INTERVAL"] = "0.1"
    gate = hosted.gate()
    hosted.origin.add("/ep-5.mp3", EPISODE, hold=gate, hold_after=200_000)
    command = ("fetch", hosted.origin.url("/ep-5.mp3"), "--output", str(tmp_path))

    with machine.running(*command, "--download-total", "300000") as first:
        first.says(r"[56]\d %")
        first.interrupt()
        code = first.ends()
    left = machine.processes()
    hosted.open(gate)
    second = machine.run(*command, "--download-total", "300000")

    assert code == 130
    assert "keeps what has arrived" in first.text
    assert left == []
    assert (second.code, second.out) == (0, f"{tmp_path / 'ep-5.mp3'}\n")
    assert "going on with ep-5.mp3-" in second.err
    assert (tmp_path / "ep-5.mp3").read_bytes() == EPISODE
    ranges = [seen.headers.get("range") for seen in hosted.origin.log]
    assert ranges[0] is None
    assert ranges[-1] not in (None, "bytes=0-")


def test_killed_without_warning_it_leaves_nothing_running(
    machine: Machine, hosted: HostedOrigin
) -> None:
    gate = hosted.gate()
    hosted.origin.add("/ep-5.mp3", EPISODE, hold=gate)

    with machine.running("fetch", hosted.origin.url("/ep-5.mp3"), "--wait") as command:
        command.says("ep-5.mp3: |ep-5.mp3-.*")
        command.says(r"ep-5.mp3-\w+: ")
        assert len(machine.processes()) > 1
        command.process.send_signal(signal.SIGKILL)
        command.ends()

    assert machine.all_end()


def test_of_two_commands_one_may_end_and_take_the_server_with_it(
    machine: Machine, hosted: HostedOrigin
) -> None:
    first_gate, second_gate = hosted.gate(), hosted.gate()
    hosted.origin.add("/first", EPISODE, hold=first_gate)
    hosted.origin.add("/second", EPISODE, hold=second_gate)

    with machine.running("fetch", hosted.origin.url("/first"), "--wait") as first:
        first.says(r"first-\w+: \d+ %")
        with machine.running("fetch", hosted.origin.url("/second"), "--wait") as second:
            second.says(r"second-\w+: \d+ %")
            hosted.open(first_gate)
            assert first.ends() == 0
            hosted.open(second_gate)
            assert second.ends() == 0

    assert machine.processes() == []


def test_waiting_ends_with_124_or_with_5_when_somebody_aborts(
    machine: Machine, hosted: HostedOrigin
) -> None:
    gate = hosted.gate()
    hosted.origin.add("/ep-5.mp3", EPISODE, hold=gate)
    url = hosted.origin.url("/ep-5.mp3")

    late = machine.run("fetch", url, "--wait-timeout", "1ms")
    with machine.running("fetch", url, "--wait", "--id", "ep-5") as waiting:
        waiting.says("ep-5: ")
        aborted = machine.run("abort", "ep-5")
        code = waiting.ends()

    assert late.code == 124
    assert "not done in time" in late.err
    assert aborted.code == 0
    assert code == 5


def test_up_runs_everything_and_every_other_command_finds_it(
    machine: Machine, hosted: HostedOrigin
) -> None:
    (machine.home / "podcasts.py").write_text(SERVICE_WORKER)
    hosted.origin.add("/ep-5.mp3", EPISODE)

    with machine.running("up", "podcasts:sw", "--workers", "2") as up:
        up.says(r"(Valkey|Redis) [\d.]+ runs at unix://")
        up.says(r"running: worker 1, worker 2, subscriber podcasts:sw")
        up.says("subscribed")
        fetched = machine.run(
            "fetch", hosted.origin.url("/ep-5.mp3"), "--id", "ep-5", "--wait"
        )
        up.says("heard of ep-5")
        up.says(
            "event_acked.*backgroundfetchsuccess|backgroundfetchsuccess.*event_acked"
        )
        clicked = machine.run("click", "ep-5")
        doctor = machine.run("doctor")
        up.interrupt()
        code = up.ends()

    assert fetched.code == 0
    assert "no server" not in fetched.err
    assert clicked.out == "http://localhost:8780/latest-podcasts\n"
    assert doctor.code == 0
    assert "2 alive" in doctor.out
    assert code == 0
    assert up.text.endswith("bgfetch: all ended")
    assert machine.processes() == []


def test_up_starts_what_dies_again(machine: Machine, hosted: HostedOrigin) -> None:
    hosted.origin.add("/ep-5.mp3", EPISODE)

    with machine.running("up", "--log-format", "console") as up:
        up.says("worker_starts")
        [worker] = machine.processes("worker")
        os.kill(worker, signal.SIGKILL)
        up.says(
            r"worker 1 ended unexpectedly \(signal 9\); another one starts in 0.5 s"
        )
        up.says("worker_starts")
        fetched = machine.run("fetch", hosted.origin.url("/ep-5.mp3"), "--wait")
        up.process.terminate()
        code = up.ends()

    assert (fetched.code, code) == (0, 0)


def test_up_ends_with_3_where_its_target_cannot_be_loaded(machine: Machine) -> None:
    (machine.home / "podcasts.py").write_text(SERVICE_WORKER)

    ended = machine.run("up", "podcasts:worker")

    assert ended.code == 3
    assert "module 'podcasts' has no attribute 'worker' (has: sw, " in ended.err
    assert machine.processes() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_end_a_waiting_command_in_order_too(
    number: signal.Signals, machine: Machine, hosted: HostedOrigin
) -> None:
    hosted.origin.add("/ep-5.mp3", EPISODE, hold=hosted.gate())

    with machine.running("fetch", hosted.origin.url("/ep-5.mp3"), "--wait") as waiting:
        waiting.says(r"ep-5.mp3-\w+: ")
        waiting.process.send_signal(number)
        assert waiting.ends() == 128 + number

    assert machine.processes() == []


def test_with_json_a_waiting_command_prints_one_object_with_its_files(
    machine: Machine, hosted: HostedOrigin, tmp_path: Path
) -> None:
    hosted.origin.add("/ep-5.mp3", EPISODE)

    ended = machine.run(
        "fetch", hosted.origin.url("/ep-5.mp3"), "--output", str(tmp_path), "--json"
    )

    told = json.loads(ended.out)
    [record] = told["recordList"]
    assert ended.code == 0
    assert (told["result"], told["downloaded"]) == ("success", len(EPISODE))
    assert (record["result"], record["status"]) == ("success", 200)
    assert record["file"] == str(tmp_path / "ep-5.mp3")


def test_a_place_that_cannot_take_files_is_told_before_anything_is_fetched(
    machine: Machine, hosted: HostedOrigin
) -> None:
    (machine.home / "file").touch()

    ended = machine.run("fetch", hosted.origin.url("/x"), "--output", "file")

    assert (ended.code, ended.out) == (1, "")
    assert ended.err.count("\n") == 1
    assert hosted.origin.log == []


def test_a_terminal_gets_bars(machine: Machine, hosted: HostedOrigin) -> None:
    hosted.origin.add("/ep-5.mp3", EPISODE)
    machine.environment |= {"TERM": "xterm", "NO_COLOR": "1", "COLUMNS": "100"}
    command = [sys.executable, "-P", "-m", "workers.cli", "fetch", "--wait"]
    ours, theirs = os.openpty()
    with (
        open(ours, "rb", buffering=0) as terminal,
        subprocess.Popen(
            [*command, hosted.origin.url("/ep-5.mp3")],
            env=machine.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=theirs,
        ) as process,
    ):
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # what a terminal reads once nobody writes any more
            while block := terminal.read(10_000):
                shown += block

    assert process.returncode == 0
    assert b"293.0/293.0 KiB" in shown
    assert "━" in shown.decode()
