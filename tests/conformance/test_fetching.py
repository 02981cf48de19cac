"""§ BackgroundFetchManager: fetch, get and getIds; § Concept: the state."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from broker import BackgroundFetchManager, Request, connect
from broker.policies import write_policy
from broker.settings import Settings
from schemas.errors import DuplicateFetch, QuotaExceeded
from schemas.policies import ScopePolicy
from tests.conformance.stage import SECONDS, Stage, until_downloaded
from tests.integration.clock import SCOPE

URL = "https://cdn.example/a"


async def test_a_new_fetch_has_every_part_with_its_default(
    manager: BackgroundFetchManager, elsewhere: BackgroundFetchManager
) -> None:
    """BF-STATE-02, BF-FETCH-22: for the caller and for everybody else."""
    post = Request(URL, method="POST", body=b"body")
    icons = [{"src": "/i.png", "sizes": "64x64"}]

    made = await manager.fetch(
        "x", [URL, post], title="t", icons=icons, download_total=9
    )
    seen = await elsewhere.get("x")

    assert seen is not None
    for each in (made, seen):
        assert (each.id, each.scope, each.title) == ("x", SCOPE, "t")
        assert [(icon.src, icon.sizes) for icon in each.icons] == [("/i.png", "64x64")]
        assert (each.download_total, each.downloaded) == (9, 0)
        assert (each.upload_total, each.uploaded) == (4, 0)
        assert (each.result, each.failure_reason) == ("", "")
        assert each.records_available
        assert each.state.records == 2


async def test_what_is_downloaded_falls_when_a_record_begins_again(
    stage: Stage,
) -> None:
    """BF-STATE-03, BF-PROG-10, BF-REC-13: it is what is held, not what has come."""
    hold = asyncio.Event()
    body = bytes(300_000)
    stage.origin.add("/a", body, cut_after=[200_000], hold=hold, hold_after=150_000)
    registration = await stage.fetch("/a")

    async with stage.performing(registration):
        await until_downloaded(registration, 100_000)
        stage.origin.replace("/a", b"shorter")
        hold.set()

    assert registration.result == "success"
    assert registration.downloaded == len(b"shorter")


async def test_ids_are_plain_strings_none_of_which_is_another(
    manager: BackgroundFetchManager,
) -> None:
    """BF-STATE-07."""
    ids = ["a", "A", " a", "a ", "a\0", "\N{GRINNING FACE}", "é", "e\u0301", "x" * 1024]

    made = [await manager.fetch(id, URL) for id in ids]

    assert await manager.get_ids() == ids
    assert [await manager.get(id) for id in ids] == made


async def test_a_fetch_needs_nothing_of_the_process_that_made_it(
    stage: Stage, tmp_path: Path
) -> None:
    """BF-STATE-04, BF-FETCH-05, -14, -23: its headers and its body are kept."""
    stage.origin.add("/a", b"thanks")
    file = tmp_path / "body"
    file.write_bytes(b"from a file")
    async with connect(scope=SCOPE, settings=stage.settings) as producer:
        post = Request(
            stage.origin.url("/a"),
            method="POST",
            headers={"X-Mine": "1"},
            body=file,
        )
        await producer.fetch("x", post)
    file.unlink()

    registration = await stage.manager.get("x")
    assert registration is not None
    await stage.perform(registration)

    [seen] = stage.origin.log
    assert (seen.headers["x-mine"], seen.body) == ("1", b"from a file")
    assert registration.result == "success"


async def test_a_total_beyond_what_the_scope_may_store_is_a_quota_exceeded(
    manager: BackgroundFetchManager,
) -> None:
    """BF-FETCH-17: before anything is asked of the network."""
    await write_policy(manager.connection, SCOPE, ScopePolicy(max_bytes=10))

    with pytest.raises(QuotaExceeded, match="download_total is 11") as refused:
        await manager.fetch("x", URL, download_total=11)

    assert refused.value.spec_name == "QuotaExceededError"
    assert await manager.get_ids() == []


async def test_fetch_returns_the_one_instance_without_waiting_for_the_network(
    stage: Stage,
) -> None:
    """BF-FETCH-20, BF-FETCH-21: the origin never answers."""
    stage.origin.add("/a", b"never", hold=asyncio.Event(), hold_after=0)

    registration = await stage.fetch("/a")

    assert await stage.manager.get_ids() == ["x"]
    assert await stage.manager.get("x") is registration
    assert stage.origin.log == []


async def test_the_map_is_empty_where_nobody_has_fetched_or_subscribed(
    manager: BackgroundFetchManager,
) -> None:
    """BF-GET-06."""
    assert await manager.get("x") is None
    assert await manager.get_ids() == []


async def test_an_instance_made_late_has_the_counters_and_misses_no_update(
    stage: Stage, elsewhere: BackgroundFetchManager
) -> None:
    """BF-GET-03, BF-GET-08."""
    hold = asyncio.Event()
    stage.origin.add("/a", bytes(200_000), hold=hold, hold_after=50_000)
    registration = await stage.fetch("/a")
    heard: list[int] = []

    async with stage.performing(registration):
        await until_downloaded(registration, 50_000)
        late = await elsewhere.get("x")
        assert late is not None
        at_first = late.downloaded
        late.add_event_listener("progress", lambda e: heard.append(e.target.downloaded))
        hold.set()
        async with asyncio.timeout(SECONDS):
            async for _ in late.progress():
                pass

    assert at_first == 50_000
    assert (heard[-1], late.downloaded) == (200_000, 200_000)
    assert sorted(heard) == heard


async def test_edits_of_the_map_take_effect_one_at_a_time(
    manager: BackgroundFetchManager, elsewhere: BackgroundFetchManager
) -> None:
    """BF-STATE-01, BF-FETCH-09, BF-ABORT-01: from two processes at once."""
    first = await manager.fetch("x", URL)
    mirror = await elsewhere.get("x")
    assert mirror is not None

    aborts = await asyncio.gather(*[each.abort() for each in (first, mirror) * 5])
    fetches = await asyncio.gather(
        *[each.fetch("x", URL) for each in (manager, elsewhere) * 5],
        return_exceptions=True,
    )

    assert sorted(aborts) == [False] * 9 + [True]
    assert sum(isinstance(each, DuplicateFetch) for each in fetches) == 9


async def test_an_id_is_free_as_soon_as_an_abort_has_returned(
    stage: Stage,
) -> None:
    """BF-ABORT-03, BF-ABORT-02: the old object does not touch the new fetch."""
    stage.origin.add("/a", b"body", hold=asyncio.Event(), hold_after=2)
    old = await stage.fetch("/a")
    async with stage.performing(old):
        await until_downloaded(old)
        assert await old.abort()
        gone = await stage.manager.get("x")
        new = await stage.fetch("/a")

    assert gone is None
    assert await old.abort() is False
    assert new.result == ""
    assert await stage.manager.get("x") is new


async def test_an_abort_of_what_is_not_there_any_more_raises_nothing(
    stage: Stage,
) -> None:
    """BF-ABORT-05, BF-ABORT-02: after success, twice, and long forgotten."""
    stage.origin.add("/a", b"")
    done = await stage.perform(await stage.fetch("/a"))
    ended = await stage.fetch("/a", id="y")

    assert await done.abort() is False
    assert [await ended.abort(), await ended.abort()] == [True, False]
    await stage.manager.connection.redis.flushall()
    assert await ended.abort() is False


async def test_what_the_caller_changes_later_makes_no_difference(
    settings: Settings,
) -> None:
    """BF-FETCH-19: what is given is copied."""
    icons, urls = [{"src": "/i.png"}], [URL]
    async with connect(scope=SCOPE, settings=settings) as manager:
        registration = await manager.fetch("x", urls, icons=icons)
        icons[0]["src"] = "/other.png"
        urls.append(URL)

        assert [icon.src for icon in registration.icons] == ["/i.png"]
        assert len(await registration.match_all()) == 1
