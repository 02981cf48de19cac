"""``bgfetch list``, ``abort``, ``retry`` … with a filter."""

from __future__ import annotations

import json

import pytest

from broker import blocking
from broker.settings import Settings
from schemas.bulk import BulkOutcome
from tests.integration.clock import SCOPE
from tests.integration.commands import Bgfetch

URL = "https://cdn.example/1"


@pytest.fixture(autouse=True)
def fetches(settings: Settings) -> None:
    """Two active fetches, and two that were aborted."""
    with blocking.connect(scope=SCOPE, settings=settings) as manager:
        for id in ("ep-1", "ep-2", "old-1", "old-2"):
            registration = manager.fetch(id, URL)
            if id.startswith("old"):
                registration.abort()


def test_list_shows_what_matches_newest_first(bgfetch: Bgfetch) -> None:
    code, out, _ = bgfetch("list", "--state", "aborted")
    filtered = bgfetch("list", "--filter", "id:ep-*", "--json")[1]
    page = bgfetch("list", "--filter", "host:cdn.example", "--limit", "3")

    assert code == 0
    assert [line.split("\t")[0] for line in out.splitlines()] == ["old-2", "old-1"]
    assert [row["id"] for row in json.loads(filtered)] == ["ep-2", "ep-1"]
    assert page[1].count("\n") == 3
    cursor = page[2].split("--cursor ")[1].strip()
    rest = bgfetch("list", "--filter", "host:cdn.example", "--cursor", cursor)
    assert rest[1].split("\t")[0] == "ep-1"


def test_list_shows_what_it_cannot_understand(bgfetch: Bgfetch) -> None:
    code, _, said = bgfetch("list", "--filter", "colour:red")

    assert code == 2
    assert "'colour:red'" in said


def test_an_action_with_a_filter_tells_how_many(bgfetch: Bgfetch) -> None:
    paused = bgfetch("pause", "--filter", "id:ep-*", "--yes")
    resumed = bgfetch("resume", "--state", "paused", "--yes", "--json")
    aborted = bgfetch("abort", "--filter", "", "--yes", "--token", "t", "--json")
    again = bgfetch("abort", "--filter", "", "--yes", "--token", "t", "--json")
    retried = bgfetch("retry", "--filter", "id:old-* scope:podcasts", "--yes")
    forgotten = bgfetch("forget", "--filter", "", "--yes", "--json")

    assert paused[:2] == (0, "matched 2, done 2, skipped 0, failed 0\n")
    assert json.loads(resumed[1])["done"] == 2
    assert json.loads(aborted[1]) == json.loads(again[1])
    assert BulkOutcome.from_plain(json.loads(aborted[1])).done == 2
    assert retried[:2] == (0, "matched 2, done 2, skipped 0, failed 0\n")
    assert json.loads(forgotten[1])["done"] == 4
    assert sorted(row["id"] for row in json.loads(bgfetch("list", "--json")[1])) == [
        "old-1",
        "old-2",
    ]


def test_an_action_on_many_asks_first(bgfetch: Bgfetch) -> None:
    code, _, said = bgfetch("abort", "--filter", "")

    assert code == 2
    assert "add --yes" in said
    assert len(json.loads(bgfetch("list", "--json")[1])) == 2


@pytest.mark.parametrize("verb", ["abort", "pause", "resume", "retry", "forget"])
def test_an_action_is_on_one_fetch_or_on_many(bgfetch: Bgfetch, verb: str) -> None:
    neither = bgfetch(verb)
    both = bgfetch(verb, "ep-1", "--filter", "id:ep-1", "--yes")

    assert neither[0] == both[0] == 2
    assert "give the ID of one fetch, or --filter" in neither[2]


def test_get_tells_what_happened(bgfetch: Bgfetch) -> None:
    code, out, _ = bgfetch("get", "old-1", "--timeline")
    told = json.loads(bgfetch("get", "old-1", "--timeline", "--json")[1])

    assert code == 0
    assert [line.split("\t")[1] for line in out.splitlines()[-3:]] == [
        "created",
        "ended",
        "published",
    ]
    assert [moment["what"] for moment in told["timeline"]] == [
        "created",
        "ended",
        "published",
    ]
    assert told["timeline"][0]["at"] == told["createdAt"]
    assert told["deliveries"] == []


def test_retry_and_forget_are_for_one_fetch_too(bgfetch: Bgfetch) -> None:
    code, out, _ = bgfetch("retry", "old-1", "--json")
    refused = bgfetch("retry", "ep-1")
    gone = bgfetch("forget", "old-2", "--yes", "--json")
    unknown = bgfetch("forget", "old-2", "--yes")

    assert (code, json.loads(out)["id"]) == (0, "old-1")
    assert json.loads(out)["scope"] == SCOPE
    assert refused[0] == 1
    assert "'ep-1' is active" in refused[2]
    assert json.loads(gone[1])["forgotten"] is True
    assert unknown[0] == 1
