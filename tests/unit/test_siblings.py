"""A folder of the user's own with one of our names is told plainly (design §3)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mine", ["schemas", "broker", "workers"])
def test_a_users_own_folder_of_the_same_name_gives_one_error_with_both_paths(
    tmp_path: Path, mine: str
) -> None:
    (tmp_path / mine).mkdir()
    (tmp_path / mine / "__init__.py").touch()
    ours = "broker" if mine != "broker" else "workers"

    run = subprocess.run(
        [sys.executable, "-c", f"import {ours}"],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=60,
    )

    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert str(tmp_path / mine) in last
    assert str(ROOT) in last
