"""Benchmarks are commands of the project: they run, and tell what they measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from broker.embedded import find_server
from tests.benchmarks import scaling
from tests.benchmarks.cases import CASES
from tests.benchmarks.report import Skipped

REPOSITORY = Path(__file__).parents[2]
FIFTY_FILES = ["downloads", "--case", "small-files", "--scale", "0.01", "--rounds", "1"]


def bench(
    *arguments: str, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, **(variables or {})},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def figures(ended: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert ended.returncode == 0, ended.stderr
    [line] = ended.stdout.splitlines()
    document: dict[str, Any] = json.loads(line)
    return document


@pytest.mark.tool("nginx")
@pytest.mark.tool("aria2c")
@pytest.mark.tool("curl")
def test_a_case_is_one_object_with_ratios_above_one_where_we_are_faster() -> None:
    case = figures(bench(*FIFTY_FILES, "--json"))

    assert (case["case"], case["unit"]) == ("small-files", "files/s")
    assert case["peers"].keys() == case["ratio"].keys() == {"aria2", "curl"}
    for peer, rate in case["peers"].items():
        assert case["ratio"][peer] == pytest.approx(case["ours"] / rate, abs=0.01)
    assert case["limit"]["name"] == "libcurl without redis"
    assert case["limit"]["value"] > 0
    assert case["rss_mib"] > 0
    assert case["cpu_seconds"].keys() == {"ours", "aria2", "curl"}
    assert "50 x 4096 bytes" in case["note"]
    assert "no fsync on any side" in case["note"]


def little(name: str, scale: str) -> list[str]:
    return ["downloads", "--case", name, "--scale", scale, "--rounds", "1", "--json"]


def little_events(name: str, scale: str) -> list[str]:
    return ["events", *little(name, scale)[1:]]


@pytest.mark.tool("nginx")
@pytest.mark.tool("aria2c")
@pytest.mark.tool("curl")
@pytest.mark.parametrize(
    ("name", "scale", "peers", "limit", "hashing"),
    [
        (
            "one-large-file",
            "0.01",
            {"aria2", "curl+sha256sum"},
            "libcurl without redis",
            "a sha256 of every file on each side",
        ),
        (
            "one-large-file-plain",
            "0.005",
            {"aria2", "curl"},
            "splice",
            "no digest on any side",
        ),
    ],
)
def test_a_digest_is_computed_on_both_sides_or_on_neither(
    name: str, scale: str, peers: set[str], limit: str, hashing: str
) -> None:
    case = figures(bench(*little(name, scale)))

    assert case["ratio"].keys() == case["aim"].keys() == peers
    assert case["limit"]["name"] in (limit, "recv and write")
    assert hashing in case["note"]


@pytest.mark.tool("nginx")
def test_tiny_fetches_are_measured_beside_a_stock_worker_of_rq() -> None:
    case = figures(bench(*little("tiny-fetches", "0.01")))

    assert (case["case"], case["unit"]) == ("tiny-fetches", "fetches/s")
    assert case["ratio"].keys() == case["aim"].keys() == {"simple-worker"}
    assert "20 fetches of one file of 4096 bytes" in case["note"]


@pytest.mark.tool("nginx")
def test_a_flat_case_compares_a_fetch_with_one_of_a_hundredth_of_it() -> None:
    case = figures(bench(*little("flat", "0.01")))

    assert case["ratio"].keys() == {"10 records"}
    assert "one fetch of 1000 records beside one of 10" in case["note"]


def test_a_case_that_the_machine_cannot_show_is_skipped_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    [case] = [case for case in CASES if case.name == "two-workers"]

    outcome = scaling.two_workers(case, rounds=1)

    assert isinstance(outcome, Skipped)
    assert outcome.document() == {
        "case": "two-workers",
        "skipped": "5 cores are needed (two workers, nginx, Redis, producer), "
        "here are 2",
    }


@pytest.mark.tool("nginx")
def test_a_peer_that_is_not_installed_is_named_and_left_out(
    tool: Callable[[str], str], tmp_path: Path
) -> None:
    for program in (Path(tool("curl")), find_server().path):
        (tmp_path / program.name).symlink_to(program)

    case = figures(bench(*FIFTY_FILES, "--json", variables={"PATH": str(tmp_path)}))

    assert case["peers"].keys() == case["ratio"].keys() == {"curl"}
    assert "not installed and left out: aria2" in case["note"]


@pytest.mark.tool("nginx")
@pytest.mark.tool("aria2c")
def test_several_streams_are_compared_with_one_and_with_a_program_that_splits() -> None:
    case = figures(bench(*little("segments", "0.1")))

    assert case["ratio"].keys() == {"one stream", "aria2 -x4"}
    assert case["ours"] > 0


@pytest.mark.tool("nginx")
def test_people_get_a_table_and_the_notes() -> None:
    ended = bench(*FIFTY_FILES)

    assert ended.returncode == 0, ended.stderr
    assert "small-files" in ended.stdout
    assert "ours / theirs" in ended.stdout
    assert "no fsync on any side" in ended.stdout


def test_events_are_measured_beside_queues_and_a_bare_stream() -> None:
    case = figures(bench(*little_events("publish-handle-ack", "0.02")))

    assert case["ratio"].keys() == case["aim"].keys() == {"dramatiq", "taskiq"}
    assert case["limit"]["name"] == "bare XREADGROUP and XACK"
    assert case["cpu_seconds"].keys() == {"ours", "dramatiq", "taskiq"}
    assert case["ours"] > 0


def test_the_time_to_a_handler_is_told_as_median_and_p99() -> None:
    ended = bench(*little_events("settle-to-handler", "0.01"))

    cases = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [case["case"] for case in cases] == [
        "settle-to-handler-median",
        "settle-to-handler-p99",
    ], ended.stderr
    for case in cases:
        ratio = case["peers"]["bare XADD"] / case["ours"]
        assert case["ratio"] == {"bare XADD": pytest.approx(ratio, abs=0.02)}


def test_waiting_handlers_are_compared_with_a_tenth_of_them() -> None:
    case = figures(bench(*little_events("waiting-handlers", "0.01")))

    assert case["ratio"].keys() == {"10 handlers"}
    assert case["rss_mib"] > 0


def test_subscribers_are_compared_with_one_and_readers_have_a_price() -> None:
    case = figures(bench(*little_events("subscribers", "0.01")))

    assert case["ratio"].keys() == {"1 subscriber"}
    assert "each reader blocked in XREADGROUP" in case["note"]


def test_an_unknown_benchmark_is_wrong_usage_and_tells_the_known_ones() -> None:
    ended = bench("uploads")

    assert ended.returncode == 2
    assert "downloads" in ended.stderr


def test_a_page_of_very_many_fetches_is_compared_with_one_of_a_few() -> None:
    case = figures(bench("listing", "--quick", "--json"))

    assert (case["case"], case["unit"]) == ("list-page", "µs/page")
    assert case["ratio"].keys() == case["aim"].keys() == {"1000 fetches"}
    assert case["ours"] > 0


def test_readers_of_a_gateway_are_all_told_the_last_state() -> None:
    """The case fails otherwise."""
    case = figures(bench("gateway", "--scale", "0.01", "--json"))

    assert (case["case"], case["unit"]) == ("readers", "µs CPU/message")
    assert case["peers"].keys() == {"2 readers"}
    assert "20 readers of one scope in one gateway process" in case["note"]
    assert case["rss_mib"] > 0
