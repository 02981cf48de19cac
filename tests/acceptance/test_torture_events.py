"""``torture events`` in short, and that it finds what is wrong (``.ci/run``: more)."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(300)
REPOSITORY = Path(__file__).parents[2]
SCRIPTS = REPOSITORY / "broker" / "lua"
FAULTS = {"kill", "stop", "partition", "leave", "cut", "mute", "restart", "late"}


def torture(*arguments: str | Path) -> tuple[int, dict[str, Any], str]:
    """Run it; return its exit code, what it came to, and the violations."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.torture", "events", "--json", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    [line] = ended.stdout.splitlines()
    return ended.returncode, json.loads(line), ended.stderr


def test_every_acknowledged_event_is_handled_whatever_happens_to_subscribers() -> None:
    """Guarantees 3, 4 and 6; R9, R10, R15, R19 to R24; faults 76, 77, 86, 88 and 90."""
    code, told, violations = torture("--quick", "--seed", "1")

    assert code == 0, violations
    assert (told["rounds"], told["violations"], told["seed"]) == (1, 0, 1)
    assert told["published"] + told["unanswered"] >= 300
    assert told["handled"] >= 2 * told["published"]
    assert told["duplicates"]["raised"] > 0
    assert told["duplicates"]["late"] > 0
    assert told["extended"] > 0
    assert told["lost"] == 0
    assert told["faults"].keys() >= FAULTS


def test_what_a_forgetful_redis_still_has_is_handled_as_ever() -> None:
    """Guarantees 3 and 4 but for what was lost; R2, R9, R10, R25; faults 77 and 88."""
    code, told, violations = torture("--events", "600", "--seed", "1", "--lose-tail")

    assert code == 0, violations
    assert told["violations"] == 0
    assert told["faults"].keys() >= FAULTS | {"tail", "destroy"}


@pytest.mark.parametrize(
    ("script", "line", "instead", "found"),
    [
        (
            "ack",
            "if holder ~= nonce or (status ~= 'held' and status ~= 'acked') then",
            "if status ~= 'held' and status ~= 'acked' then",
            "was told 'acked'",
        ),
        (
            "extend",
            "redis.call('ZADD', KEYS[2], deadline, ARGV[at + 2])",
            "",
            "no lease was extended",
        ),
    ],
    ids=["a fence that is removed", "an extension that is removed"],
)
def test_a_broken_script_is_found_out(
    script: str, line: str, instead: str, found: str, tmp_path: Path
) -> None:
    """R10, R24: by construction, some handler is late, and some is long."""
    broken = tmp_path / "lua"
    shutil.copytree(SCRIPTS, broken)
    path = broken / f"{script}.lua"
    whole = path.read_text()
    path.write_text(whole.replace(line, instead))

    code, told, violations = torture("--quick", "--seed", "1", "--lua", broken)

    assert line in whole
    assert code == 1
    assert told["violations"] > 0
    assert found in violations
