"""A few rounds of the torture belong to the suite; thousands are run beside it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def torture(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.torture", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def test_what_is_killed_stopped_and_swapped_leaves_whole_files_of_one_version() -> None:
    """Guarantees 2, 3 and 7; R2 to R8; faults 67 to 69, 76 and 77."""
    ended = torture("resume", "--rounds", "16", "--seed", "1", "--json")

    assert ended.returncode == 0, ended.stderr
    [line] = ended.stdout.splitlines()
    told = json.loads(line)
    assert (told["rounds"], told["violations"], told["seed"]) == (16, 0, 1)
    assert {"kill", "stop", "mute", "swap"} <= told["faults"].keys()


def test_so_it_does_where_files_come_in_segments() -> None:
    """R3, R5, R7; faults 55."""
    ended = torture(
        "resume", "--rounds", "10", "--seed", "8", "--segments", "4", "--json"
    )

    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert (told["rounds"], told["violations"]) == (10, 0)


def test_a_worker_killed_at_any_point_leaves_what_the_next_one_makes_good() -> None:
    """BF-LIFE-08, Faults row 67: `torture crash` without --rounds takes every point."""
    ended = torture("crash", "--rounds", "18", "--json")

    assert ended.returncode == 0, ended.stdout + ended.stderr
    [line] = ended.stdout.splitlines()
    told = json.loads(line)
    assert (told["rounds"], told["violations"]) == (18, 0)
    assert told["points"] > 100
    assert told["died"] > 0


def test_a_torture_without_a_name_tells_which_there_are() -> None:
    ended = torture()

    assert ended.returncode == 2
    assert "resume" in ended.stderr
