"""The quota of a scope: what all its fetches store, or may yet store, at a time."""

from __future__ import annotations

import asyncio
import json

import pytest

from broker.agenda import Agenda, Verdict
from broker.keys import FetchKeys
from broker.lanes import LaneHold, Opened, RecordReport, Refusal
from broker.manager import BackgroundFetchManager, connect
from broker.policies import read_rules, write_policy
from broker.quantities import shown_size
from broker.queue import queue_key
from broker.registration import BackgroundFetchRegistration
from broker.settings import Settings
from schemas.errors import QuotaExceeded
from schemas.policies import ScopePolicy
from schemas.records import RecordResult, RecordState
from schemas.requests import Request
from tests.integration.clock import SCOPE, Clock
from tests.integration.commands import Bgfetch
from tests.integration.working import perform
from workers.demo.origin import Origin
from workers.engine import Engine

URL = "https://cdn.example/1"
MIB = 1024 * 1024


async def put(manager: BackgroundFetchManager, quota: int) -> None:
    await write_policy(manager.connection, SCOPE, ScopePolicy(quota=quota))


async def used(manager: BackgroundFetchManager) -> int:
    return (await read_rules(manager.connection, SCOPE)).used


async def take(
    manager: BackgroundFetchManager, registration: BackgroundFetchRegistration
) -> tuple[LaneHold, Opened]:
    keys = FetchKeys(SCOPE, registration.uid)
    hold = LaneHold(manager.connection, manager.settings, keys)
    opened = await hold.take("job", 10)
    assert isinstance(opened, Opened)
    return hold, opened


async def release(
    manager: BackgroundFetchManager, registration: BackgroundFetchRegistration
) -> None:
    """Let the retention end, as nobody subscribes."""
    keys = FetchKeys(SCOPE, registration.uid)
    await Clock(manager).age_settlement(keys, manager.settings.retention * 2)
    agenda = Agenda(manager.connection, manager.settings)
    assert (await agenda.look(keys)).verdict is Verdict.RELEASED


async def test_bodies_beyond_the_quota_are_refused_and_usage_is_as_before(
    manager: BackgroundFetchManager, settings: Settings
) -> None:
    """BF-FETCH-16: in Redis and in the store."""
    await put(manager, 1024)
    before = await manager.connection.ask("KEYS", "*")

    for size in (2048, 200_000):
        with pytest.raises(QuotaExceeded, match="0 of the 1024 that the scope may"):
            await manager.fetch("a", Request(URL, method="POST", body=b"x" * size))

    assert await manager.connection.ask("KEYS", "*") == before
    assert await used(manager) == 0
    files = [*settings.store_directory.rglob("*")]
    assert [
        file for file in files if file.is_file() and file.stat().st_size > 1024
    ] == []
    await manager.fetch("a", Request(URL, method="POST", body=b"x" * 1024))
    assert await used(manager) == 1024


async def test_a_download_total_is_reserved_and_refused_where_it_does_not_fit(
    manager: BackgroundFetchManager,
) -> None:
    """BF-FETCH-17: at once, before any request."""
    await put(manager, 10_000)
    with pytest.raises(QuotaExceeded):
        await manager.fetch("a", URL, download_total=2**53 - 1)
    assert await used(manager) == 0

    first = await manager.fetch("a", URL, download_total=6000)
    assert await used(manager) == 6000
    with pytest.raises(QuotaExceeded, match="6000 of the 10000"):
        await manager.fetch("b", URL, download_total=4001)
    await manager.fetch("b", URL, download_total=4000)
    await first.abort()

    assert await used(manager) == 4000


async def test_of_two_that_are_registered_at_once_only_one_gets_the_last_room(
    manager: BackgroundFetchManager,
) -> None:
    """R22: the script decides, whatever was read before."""
    await put(manager, 1000)

    done = await asyncio.gather(
        *(manager.fetch(id, URL, download_total=600) for id in "ab"),
        return_exceptions=True,
    )

    assert sorted(isinstance(one, QuotaExceeded) for one in done) == [False, True]
    assert await used(manager) == 600


async def test_what_is_stored_counts_until_the_records_are_released(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin
) -> None:
    """BF-LIFE-03: requests and responses; not what was granted ahead."""
    await put(manager, 100 * MIB)
    origin.add("/a", b"x" * 3000)
    request = Request(origin.url("/a"), method="POST", body=b"y" * 500)

    registration = await manager.fetch("a", [request, origin.url("/a")])
    assert await used(manager) == 500
    await perform(engine, registration)

    assert registration.result == "success"
    assert await used(manager) == 6500
    await release(manager, registration)
    assert await used(manager) == 0


async def test_usage_is_counted_without_a_quota_too(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin
) -> None:
    """BF-LIFE-03: one that is set later finds what is there."""
    origin.add("/a", b"x" * 3000)
    registration = await manager.fetch("a", origin.url("/a"), download_total=5000)
    assert await used(manager) == 0
    await perform(engine, registration)

    assert await used(manager) == 3000
    await put(manager, 3500)
    with pytest.raises(QuotaExceeded, match="3000 of the 3500"):
        await manager.fetch("b", URL, download_total=501)
    await release(manager, registration)
    assert await used(manager) == 0


async def test_a_record_beyond_the_quota_fails_and_the_others_go_on(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin
) -> None:
    """BF-REC-17, R18: not a byte more than there is room for."""
    await put(manager, 150_000)
    for name in "abc":
        origin.add(f"/{name}", b"x" * 100_000)

    registration = await manager.fetch("a", [origin.url(f"/{name}") for name in "abc"])
    await perform(engine, registration)

    assert registration.failure_reason == "quota-exceeded"
    records = [await record.refresh() for record in await registration.match_all()]
    told = "no room left within the quota of the scope"
    assert sorted((each.result, each.failure_reason) for each in records) == [
        ("quota-exceeded", told),
        ("quota-exceeded", told),
        ("success", ""),
    ]
    assert await used(manager) == registration.downloaded == 100_000


async def test_a_large_record_asks_for_more_as_it_grows(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin
) -> None:
    """R18: far beyond what is granted ahead where the room is scarce."""
    body = b"x" * (8 * MIB)
    await put(manager, len(body))
    origin.add("/a", body)

    registration = await manager.fetch("a", origin.url("/a"))
    await perform(engine, registration)

    assert registration.result == "success"
    assert await used(manager) == len(body)


async def test_a_file_under_a_quota_comes_in_one_stream(
    settings: Settings, origin: Origin
) -> None:
    """R18: bytes that are stored ahead of others could not wait for an allowance."""
    split = {"segments": 4, "segment_size": 32 * 1024}
    settings = settings.model_copy(update=split)
    body = b"x" * MIB
    origin.add("/a", body)
    engine = Engine(settings, reclaiming=False)
    await engine.start()
    async with connect(scope=SCOPE, settings=settings) as manager:
        await put(manager, MIB)

        registration = await perform(engine, await manager.fetch("a", origin.url("/a")))

        assert registration.result == "success"
        assert len(origin.log) == 1
        assert await used(manager) == len(body)
    await engine.aclose()


async def test_a_lane_may_store_what_is_granted_and_no_more(
    manager: BackgroundFetchManager, settings: Settings
) -> None:
    """R18: something ahead, where there is room; one lane alone counts."""
    settings = settings.model_copy(update={"lane_size": 1})
    async with connect(scope=SCOPE, settings=settings) as manager:
        await put(manager, 8000)
        registration = await manager.fetch("a", [URL, URL])
        assert await manager.connection.ask("LLEN", queue_key("auto")) == 1
        hold, opened = await take(manager, registration)
        assert opened.granted == 1000
        assert await used(manager) == 1000
        second = LaneHold(
            manager.connection, settings, FetchKeys(SCOPE, registration.uid)
        )
        assert await second.take("job-2", 1) is Refusal.FULL

        answer = await hold.report([], want=0, held=2, need=4000)
        assert answer.granted == 4500
        answer = await hold.report([], want=0, held=2, need=9000)
        assert answer.granted == 8000
        assert await used(manager) == 8000
        answer = await hold.report([], want=0, held=2, need=800, keep=3000)
        assert answer.granted == 3000
        answer = await hold.report([], want=0, held=2, need=800)
        assert answer.granted == 1700


@pytest.mark.parametrize("dies", [True, False])
async def test_an_allowance_ends_with_its_lane(
    manager: BackgroundFetchManager, clock: Clock, dies: bool
) -> None:
    """R18: what was stored stays counted."""
    await put(manager, 8000)
    registration = await manager.fetch("a", URL)
    keys = FetchKeys(SCOPE, registration.uid)
    hold, _ = await take(manager, registration)
    await hold.report([RecordReport(0, 100)], want=0, held=1, need=2000)
    assert await used(manager) > 2000

    if dies:
        await clock.age_lanes(keys, manager.settings.lease * 2)
        await Agenda(manager.connection, manager.settings).look(keys)
    else:
        await hold.leave()

    assert await used(manager) == 100
    assert (await hold.report([], want=0, held=1, need=5000)).refusal is Refusal.STALE
    assert await used(manager) == 100
    _, opened = await take(manager, registration)
    assert opened.granted == 100 + (8000 - 100) // 8


async def test_room_that_becomes_free_is_granted_to_who_asks_next(
    manager: BackgroundFetchManager,
) -> None:
    await put(manager, 1000)
    other = await manager.fetch("b", URL, download_total=900)
    registration = await manager.fetch("a", URL)
    hold, _ = await take(manager, registration)
    assert (await hold.report([], want=0, held=1, need=500)).granted == 100

    await other.abort()

    assert (await hold.report([], want=0, held=1, need=500)).granted == 562


async def test_a_report_that_is_repeated_counts_once(
    manager: BackgroundFetchManager,
) -> None:
    """R18: absolute, with a quota and without."""
    for quota, need in ((8000, 100), (0, -1)):
        await put(manager, quota)
        registration = await manager.fetch("a", [URL, URL])
        hold, _ = await take(manager, registration)
        for _ in range(2):
            await hold.report([RecordReport(0, 100)], want=0, held=2, need=need)
        ended = RecordReport(0, 100, result=RecordResult.SUCCESS, state=RecordState())
        for _ in range(2):
            await hold.report([ended], want=0, held=1, need=need)
        await registration.abort()

        assert await used(manager) == 100
        await release(manager, registration)
        assert await used(manager) == 0


async def test_a_lifted_quota_holds_nobody_up(manager: BackgroundFetchManager) -> None:
    await put(manager, 1000)
    registration = await manager.fetch("a", URL)
    hold, _ = await take(manager, registration)

    await put(manager, 0)

    answer = await hold.report([], want=0, held=1, need=5000)
    assert answer.granted == 5000 + 32 * MIB


def test_the_command_line_sets_and_shows_a_quota(bgfetch: Bgfetch) -> None:
    assert bgfetch("scope", "set", SCOPE, "--quota", "1MB")[0] == 0
    assert bgfetch("fetch", URL, "--download-total", "600kB")[0] == 0

    shown = json.loads(bgfetch("scope", "show", SCOPE, "--json")[1])
    assert (shown["quota"], shown["used"]) == (1_000_000, 600_000)
    text = bgfetch("scope", "show", SCOPE)[1]
    assert f"quota:      {shown_size(1_000_000)}, {shown_size(600_000)} used\n" in text
    code, _, told = bgfetch("fetch", URL, "--download-total", "600kB")
    assert code == 1
    assert told.startswith("bgfetch: QuotaExceededError: ")
