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
def test_people_get_a_table_and_the_notes() -> None:
    ended = bench(*FIFTY_FILES)

    assert ended.returncode == 0, ended.stderr
    assert "small-files" in ended.stdout
    assert "ours / theirs" in ended.stdout
    assert "no fsync on any side" in ended.stdout


def test_an_unknown_benchmark_is_wrong_usage_and_tells_the_known_ones() -> None:
    ended = bench("uploads")

    assert ended.returncode == 2
    assert "downloads" in ended.stderr
