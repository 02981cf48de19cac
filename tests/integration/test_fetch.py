"""A fetch from end to end in one process: real Redis, real origin, real files."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from broker.agenda import Agenda
from broker.keys import FetchKeys
from broker.manager import BackgroundFetchManager
from broker.records import MatchOptions
from broker.registration import BackgroundFetchRegistration
from broker.settings import Settings
from schemas.errors import (
    Aborted,
    DuplicateFetch,
    ForbiddenAddress,
    InvalidState,
    InvalidURL,
    RecordFailed,
    RejectedFetch,
)
from schemas.fetches import FailureReason, Result
from schemas.requests import Request
from tests.integration.clock import SCOPE, Clock
from tests.integration.wire import Scripted
from tests.integration.working import perform
from workers.demo.origin import Origin
from workers.engine import Engine

BODY = bytes(range(256)) * 1024


async def body_of(registration: BackgroundFetchRegistration, url: str) -> bytes:
    record = await registration.match(url, ignore_method=True)
    assert record is not None
    return await (await record.response_ready).read()


async def test_no_fetch_reaches_the_redis_that_carries_it(
    manager: BackgroundFetchManager, settings: Settings
) -> None:
    """Guarantee 8, faults 33: directly or by a redirect, at any loopback address."""
    url = urlsplit(settings.found_redis())
    if url.scheme != "unix":
        pytest.skip("the server is on no unix socket, whose path would be too long")

    async def pass_on(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        heads.append(await reader.readexactly(4))
        server, client = await asyncio.open_unix_connection(url.path)
        client.write(heads[-1])
        try:
            await asyncio.gather(_pour(reader, client), _pour(server, writer))
        finally:
            client.close()

    heads: list[bytes] = []
    async with Scripted(pass_on) as redis, Origin() as origin:
        tcp = f"redis://127.0.0.1:{redis.port}"
        engine = Engine(settings.model_copy(update={"redis_url": tcp}))
        await engine.start()
        origin.add("/a", b"", status=302, headers={"Location": redis.url})
        urls = [redis.url, f"http://127.0.0.3:{redis.port}/", origin.url("/a")]

        registration = await perform(engine, await manager.fetch("x", urls))

        records = [await each.refresh() for each in await registration.match_all()]
        reasons = [record.failure_reason for record in records]
        assert all("a server of this worker's own" in reason for reason in reasons)
        assert heads
        assert all(head.startswith(b"*") for head in heads)
        await engine.aclose()


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.write_eof()


async def test_a_group_of_files_arrives_whole(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin, tmp_path: Path
) -> None:
    """BF-FETCH-06, BF-EVT-07, BF-OBJ-03, BF-OBJ-05, BF-REC-26."""
    origin.add("/a", BODY)
    origin.add("/empty", b"")
    urls = [origin.url("/a"), origin.url("/empty"), origin.url("/a")]

    registration = await perform(engine, await manager.fetch("x", urls))

    assert registration.result is Result.SUCCESS
    assert registration.downloaded == 2 * len(BODY)
    records = await registration.match_all()
    assert [record.request.url for record in records] == urls
    response = await records[0].response_ready
    await response.save(tmp_path / "saved")
    assert (tmp_path / "saved").read_bytes() == BODY
    assert (response.status, response.ok, response.url) == (200, True, urls[0])
    assert "content-length" not in response.headers
    assert await (await records[1].response_ready).read() == b""


async def test_a_file_whose_connection_breaks_is_resumed_with_proof(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin
) -> None:
    """R7, BF-REC-03, BF-REC-14, BF-REC-21; the digest is of what is stored (R6)."""
    origin.add("/a", BODY, cut_after=[100_000, 50_000])

    registration = await perform(engine, await manager.fetch("x", origin.url("/a")))

    assert registration.result is Result.SUCCESS
    assert await body_of(registration, origin.url("/a")) == BODY
    ranges = [seen.headers.get("range") for seen in origin.log]
    assert ranges[0] is None
    assert all(value and value.startswith("bytes=") for value in ranges[1:])
    assert len(ranges) == 3
    assert all("if-range" in seen.headers for seen in origin.log[1:])
    [record] = await registration.match_all()
    assert (await record.refresh()).attempts == 3


async def test_a_file_that_changes_between_two_attempts_is_never_mixed(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin
) -> None:
    """Guarantee 2, R3, R7, BF-REC-13, BF-PROG-10."""
    newer = BODY[::-1]
    hold = asyncio.Event()
    origin.add("/a", BODY, cut_after=[200_000], hold=hold, hold_after=100_000)
    registration = await manager.fetch("x", origin.url("/a"))
    working = asyncio.create_task(perform(engine, registration))
    async for progress in registration.progress():
        if progress.downloaded:
            break

    origin.replace("/a", newer)
    hold.set()
    await working

    assert registration.result is Result.SUCCESS
    assert await body_of(registration, origin.url("/a")) == newer
    assert registration.downloaded == len(newer)


async def test_a_503_is_retried_after_the_time_that_it_asks_for(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin
) -> None:
    """Faults 58, 60."""
    origin.add("/a", BODY, fail_first=[(503, {"Retry-After": "0"}), (500, {})])

    registration = await perform(engine, await manager.fetch("x", origin.url("/a")))

    assert registration.result is Result.SUCCESS
    assert len(origin.log) == 3


async def test_a_404_fails_the_fetch_but_leaves_every_body_readable(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin
) -> None:
    """BF-PERF-02, BF-EVT-08, BF-REC-19, BF-OBJ-10, BF-IMPL-07."""
    origin.add("/a", BODY)
    origin.add("/missing", b"not here", status=404)

    registration = await perform(
        engine, await manager.fetch("x", [origin.url("/missing"), origin.url("/a")])
    )

    assert registration.failure_reason is FailureReason.BAD_STATUS
    assert await body_of(registration, origin.url("/a")) == BODY
    missing = await registration.match(origin.url("/missing"))
    assert missing is not None
    response = await missing.response_ready
    assert (response.status, response.ok, await response.text()) == (
        404,
        False,
        "not here",
    )
    assert missing.failure_reason.startswith("status 404")


async def test_the_download_total_may_be_reached_but_not_exceeded(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin
) -> None:
    """R18, BF-REC-15, BF-REC-16, BF-PERF-03."""
    origin.add("/a", BODY)
    origin.add("/b", BODY)
    urls = [origin.url("/a"), origin.url("/b")]

    exact = await perform(
        engine, await manager.fetch("x", urls, download_total=2 * len(BODY))
    )
    short = await perform(
        engine, await manager.fetch("y", urls, download_total=2 * len(BODY) - 1)
    )

    assert exact.result is Result.SUCCESS
    assert short.failure_reason is FailureReason.DOWNLOAD_TOTAL_EXCEEDED
    assert short.downloaded < 2 * len(BODY)


async def test_a_body_can_be_read_while_it_arrives(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin
) -> None:
    """BF-OBJ-02, BF-OBJ-04, BF-MATCH-02, R8."""
    hold = asyncio.Event()
    origin.add("/a", BODY, hold=hold)
    registration = await manager.fetch("x", origin.url("/a"))
    working = asyncio.create_task(perform(engine, registration))

    record = await registration.match(origin.url("/a"))
    assert record is not None
    async with asyncio.timeout(20):
        response = await record.response_ready
        body = response.body
        first = await anext(body)
        during = registration.result
        hold.set()
        rest = b"".join([block async for block in body])
        await working

    assert during is Result.ACTIVE
    assert first + rest == BODY


async def test_an_abort_stops_the_transfer_and_the_readers(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin
) -> None:
    """BF-ABORT-06, BF-ABORT-07, BF-REC-24, BF-OBJ-06, BF-OBJ-09."""
    origin.add("/done", b"done")
    origin.add("/slow", BODY, hold=asyncio.Event())
    urls = [origin.url("/done"), origin.url("/slow")]
    registration = await manager.fetch("x", urls)
    working = asyncio.create_task(perform(engine, registration))
    done, slow = await registration.match_all()
    assert await (await done.response_ready).read() == b"done"
    reading = asyncio.create_task((await slow.response_ready).read())

    aborted = await registration.abort()
    async with asyncio.timeout(5):
        await working

    assert aborted
    with pytest.raises(Aborted):
        await reading
    with pytest.raises(Aborted):
        await slow.response_ready
    assert await (await done.response_ready).read() == b"done"


async def test_redirects_are_followed_and_told(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin
) -> None:
    """BF-SEC-11, BF-SEC-12."""
    origin.add("/from", b"", status=302, headers={"Location": "/to"})
    origin.add("/to", BODY)
    wanted: list[str | Request] = [
        origin.url("/from"),
        Request(origin.url("/from"), redirect="error"),
        Request(origin.url("/from"), redirect="manual"),
    ]

    registration = await perform(engine, await manager.fetch("x", wanted))

    followed, refused, manual = await registration.match_all()
    response = await followed.response_ready
    assert (response.redirected, response.url) == (True, origin.url("/to"))
    assert await response.read() == BODY
    with pytest.raises(RecordFailed):
        await refused.response_ready
    assert (await manual.refresh()).result == "bad-status"


async def test_a_post_is_sent_once_with_its_body(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin
) -> None:
    """BF-REC-11, BF-REC-07, BF-FETCH-18."""
    origin.add("/a", b"thanks", cut_after=[2])
    post = Request(origin.url("/a"), method="POST", body=b"x" * 5000)

    registration = await manager.fetch("x", post)
    total = registration.upload_total
    await perform(engine, registration)

    assert (total, registration.uploaded) == (5000, 5000)
    assert registration.failure_reason is FailureReason.FETCH_ERROR
    [seen] = origin.log
    assert (seen.method, seen.body) == ("POST", b"x" * 5000)


async def test_a_stopped_lane_gives_its_bytes_to_the_next(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin, settings: Settings
) -> None:
    """Guarantee 7, R4, R6: a worker that leaves in order."""
    hold = asyncio.Event()
    origin.add("/a", BODY, hold=hold)
    registration = await manager.fetch("x", origin.url("/a"))
    first = Engine(settings, reclaiming=False)
    await first.start()
    working = asyncio.create_task(first.perform(SCOPE, registration.uid, "job"))
    async for progress in registration.progress():
        if progress.downloaded:
            break
    await first.drain()
    await working
    await first.aclose()
    hold.set()

    await perform(engine, registration)

    assert registration.result is Result.SUCCESS
    assert await body_of(registration, origin.url("/a")) == BODY
    resumed = origin.log[-1].headers
    assert int(resumed["range"].removeprefix("bytes=").rstrip("-")) > 0


async def test_released_records_are_unreadable_and_their_bytes_go_after_a_grace(
    manager: BackgroundFetchManager,
    engine: Engine,
    origin: Origin,
    settings: Settings,
    clock: Clock,
) -> None:
    """R16, BF-PERF-08, BF-LIFE-04: retention ends everything."""
    origin.add("/a", BODY)
    registration = await perform(engine, await manager.fetch("x", origin.url("/a")))
    keys = FetchKeys(SCOPE, registration.uid)
    reclaimer = engine.reclaimer
    blobs = settings.store_directory / "blobs"

    await clock.age_settlement(keys, settings.retention)
    await reclaimer.look(keys)  # released
    await registration.refresh()
    await reclaimer.look(keys)  # still in the grace
    kept = len(list(blobs.iterdir()))
    with pytest.raises(InvalidState):
        await registration.match_all()
    await clock.age_settlement(keys, settings.release_grace)
    await reclaimer.look(keys)  # bytes deleted
    gone = len(list(blobs.iterdir()))
    await reclaimer.look(keys)  # forgotten

    assert (kept, gone) == (1, 0)
    assert await manager.find("x") is None
    assert await manager.connection.ask("KEYS", f"bgfetch:*{registration.uid}*") == []
    assert await Agenda(manager.connection, settings).due() == []


async def test_what_fetch_refuses_leaves_nothing_behind(
    manager: BackgroundFetchManager,
) -> None:
    """BF-FETCH-01, -03, -07, -13, -24, BF-SEC-06, BF-SEC-08, faults 1 to 12."""
    good = "https://cdn.example/a"
    await manager.fetch("taken", good)
    before = await manager.connection.ask("DBSIZE")

    cases: list[tuple[str, list[str | Request], type[RejectedFetch]]] = [
        ("x", [], RejectedFetch),
        ("x", [good, "http://["], InvalidURL),
        ("x", ["file:///etc/passwd"], InvalidURL),
        ("x", ["https://u:p@cdn.example/"], InvalidURL),
        ("x", ["https://cdn.example:25/"], InvalidURL),
        ("x", [good, "http://10.0.0.1/"], ForbiddenAddress),
        ("x", ["http://169.254.169.254/"], ForbiddenAddress),
        ("x", [Request(good, mode="no-cors")], RejectedFetch),
        ("", [good], RejectedFetch),
    ]
    for id, requests, expected in cases:
        with pytest.raises(expected) as refused:
            await manager.fetch(id, requests)
        assert refused.value.spec_name == "TypeError"

    assert await manager.connection.ask("DBSIZE") == before
    assert await manager.get_ids() == ["taken"]


async def test_one_of_many_concurrent_fetches_gets_the_id(
    manager: BackgroundFetchManager,
) -> None:
    """BF-FETCH-07, BF-FETCH-09, BF-FETCH-13, faults 2: nothing of others stays."""
    results = await asyncio.gather(
        *(manager.fetch("x", "https://cdn.example/") for _ in range(30)),
        return_exceptions=True,
    )

    refused = [result for result in results if isinstance(result, DuplicateFetch)]
    assert len(refused) == 29
    assert await manager.connection.ask("KEYS", "*:staged") == []
    assert len(await manager.connection.ask("KEYS", "*:requests")) == 1


async def test_get_returns_the_one_object_of_an_active_fetch(
    manager: BackgroundFetchManager,
) -> None:
    """BF-GET-01, -04, -05, -07, BF-INST-01, BF-INST-02, BF-STATE-08, R23."""
    for id in ("b", "a", "c"):
        await manager.fetch(id, "https://cdn.example/")
    first = await manager.get("a")
    assert first is not None

    same = await manager.get("a")
    ids = await manager.get_ids()
    await first.abort()
    again = await manager.fetch("a", "https://cdn.example/")

    assert same is first
    assert ids == ["b", "a", "c"]
    assert await manager.get_ids() == ["b", "c", "a"]
    assert again is not first
    assert await first.abort() is False
    assert await manager.get("a") is again
    assert await manager.get("nope") is None
    with pytest.raises(TypeError):
        await manager.get("")


async def test_a_hundred_thousand_requests_register_in_one_call(
    manager: BackgroundFetchManager,
) -> None:
    """Faults 13, R22: staged, then one committing script."""
    urls = (f"https://cdn.example/{n}" for n in range(100_000))

    registration = await manager.fetch("x", urls)

    assert registration.state.records == 100_000
    found = await registration.match("https://cdn.example/777")
    assert found is not None
    assert registration.state.created_at > 0


async def test_match_compares_as_a_cache_does(manager: BackgroundFetchManager) -> None:
    """BF-MATCH-03 to -07, -09."""
    put = Request("https://cdn.example/p", method="PUT", body=b"1")
    twice = "https://cdn.example/b"
    wanted: list[str | Request] = [
        "https://cdn.example/a?id=3#f",
        twice,
        put,
        twice,
    ]
    registration = await manager.fetch("x", wanted)

    async def count(url: str, **options: bool) -> int:
        return len(await registration.match_all(url, **options))

    assert len(await registration.match_all()) == 4
    assert await count("https://cdn.example/a?id=3#other") == 1
    assert await count("https://cdn.example/a") == 0
    assert await count("https://cdn.example/a", ignore_search=True) == 1
    assert await count("https://cdn.example/b") == 2
    assert await count("https://cdn.example/p") == 0
    assert await count("https://cdn.example/p", ignore_method=True) == 1
    assert await registration.match("https://nowhere.example/") is None
    with pytest.raises(TypeError):
        await registration.match("http://[")


async def test_progress_begins_with_the_state_and_ends_with_the_result(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin
) -> None:
    """BF-PROG-01, -07, -09: consistent snapshots, the last always delivered."""
    origin.add("/a", BODY)
    registration = await manager.fetch("x", origin.url("/a"))
    heard: list[str] = []
    registration.onprogress = lambda event: heard.append(event.target.result)

    working = asyncio.create_task(perform(engine, registration))
    async with asyncio.timeout(20):
        seen = [progress async for progress in registration.progress()]
    await working

    assert (seen[0].downloaded, seen[0].result) == (0, "")
    assert (seen[-1].downloaded, seen[-1].result) == (len(BODY), "success")
    assert heard[-1] == "success"


async def test_the_digest_of_every_blob_is_that_of_its_bytes(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin
) -> None:
    """R6."""
    origin.add("/a", BODY, cut_after=[70_000])
    registration = await perform(engine, await manager.fetch("x", origin.url("/a")))

    [(index, _)] = await manager.reader.matching(
        registration.state, None, MatchOptions()
    )
    look = await manager.reader.look(FetchKeys(SCOPE, registration.uid), index)

    assert look.state.digest == hashlib.sha256(BODY).hexdigest()
