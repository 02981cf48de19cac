"""§ Display: what a person sees of a fetch, and can do about it, at a terminal."""

from __future__ import annotations

import json

import pytest

from tests.integration.clock import SCOPE
from tests.integration.commands import Bgfetch

URL = "https://cdn.example/ep-5.mp3"


def test_a_person_sees_whose_transfer_it_is_and_can_end_it(
    bgfetch: Bgfetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BF-DISP-01, BF-DISP-02, BF-DISP-07, BF-LIFE-01: whatever its title says."""
    monkeypatch.setenv("BGFETCH_BASE_URL", "https://podcasts.example/")
    bgfetch("fetch", URL, "--id", "x", "--title", "scope: bank")

    _, shown, _ = bgfetch("get", "x")
    _, listed, _ = bgfetch("list", "--json")
    ended, _, _ = bgfetch("abort", "x")
    _, after, _ = bgfetch("get", "x")

    assert f"scope:       {SCOPE}, https://podcasts.example" in shown.splitlines()
    assert "state:       active" in shown.splitlines()
    [row] = json.loads(listed)
    assert (row["scope"], row["baseUrl"]) == (SCOPE, "https://podcasts.example/")
    assert ended == 0
    assert "state:       aborted" in after.splitlines()


def test_a_running_fetch_is_listed_until_it_is_aborted(bgfetch: Bgfetch) -> None:
    """BF-DISP-03, BF-DISP-10: and among the ended ones after that."""
    bgfetch("fetch", URL, "--id", "x")

    listed = [json.loads(bgfetch("list", "--json")[1]) for _ in range(2)]
    bgfetch("abort", "x")
    gone = json.loads(bgfetch("list", "--json")[1])
    kept = json.loads(bgfetch("list", "--all", "--json")[1])

    assert [[row["id"] for row in rows] for rows in listed] == [["x"], ["x"]]
    assert gone == []
    assert [(row["id"], row["failureReason"]) for row in kept] == [("x", "aborted")]


@pytest.mark.parametrize(
    ("total", "shown"), [("0", "0 bytes"), ("1024", "0 bytes of 1.0 KiB")]
)
def test_without_a_total_progress_is_not_out_of_anything(
    bgfetch: Bgfetch, total: str, shown: str
) -> None:
    """BF-DISP-06."""
    bgfetch("fetch", URL, "--id", "x", "--download-total", total)

    lines = bgfetch("get", "x")[1].splitlines()

    assert f"downloaded:  {shown}" in lines
