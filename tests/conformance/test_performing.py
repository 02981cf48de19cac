"""§ Perform a background fetch: its records together."""

from __future__ import annotations

import asyncio
import socket
from contextlib import closing

import pytest

from broker import BackgroundFetchManager
from broker.keys import ScopeKeys
from broker.settings import Settings
from schemas.errors import Aborted, RecordFailed
from tests.conformance.stage import SECONDS, Stage, until_downloaded
from tests.integration.clock import SCOPE

BODY = bytes(range(256)) * 1024


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nhere"
    )
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def test_records_are_completed_in_parallel_and_keep_their_order(
    stage: Stage,
) -> None:
    """BF-PERF-01: no body ends before all have begun."""
    hold = asyncio.Event()
    paths = ["/a", "/b", "/c"]
    for path in paths:
        stage.origin.add(path, path.encode() * 1000, hold=hold)
    registration = await stage.fetch(*paths)

    async with stage.performing(registration):
        records = await registration.match_all()
        for record in records:
            await record.response_ready
        hold.set()

    assert [await stage.read(registration, path) for path in paths] == [
        path.encode() * 1000 for path in paths
    ]
    assert [record.request.url for record in records] == [
        stage.origin.url(path) for path in paths
    ]


async def test_an_abort_overrides_a_record_that_had_failed_before(
    stage: Stage,
) -> None:
    """BF-PERF-09, BF-PERF-10: aborted is the reason, whatever came first."""
    stage.origin.add("/slow", BODY, hold=asyncio.Event())
    registration = await stage.fetch("/missing", "/slow")

    async with stage.performing(registration):
        missing = await stage.record(registration, "/missing")
        assert await (await missing.response_ready).read() == b""
        await until_downloaded(registration)
        assert await registration.abort()

    assert (registration.result, registration.failure_reason) == ("failure", "aborted")
    assert (await missing.response_ready).status == 404


async def test_the_counters_move_while_bytes_arrive_for_everybody(
    stage: Stage, elsewhere: BackgroundFetchManager
) -> None:
    """BF-REC-18, BF-PROG-02: as another process sees it."""
    hold = asyncio.Event()
    stage.origin.add("/a", BODY, hold=hold, hold_after=1000)
    registration = await stage.fetch("/a")
    mirror = await elsewhere.get("x")
    assert mirror is not None
    heard: list[int] = []
    mirror.onprogress = lambda event: heard.append(event.target.downloaded)

    async with stage.performing(registration):
        await until_downloaded(mirror, 1000)
        during = (mirror.downloaded, mirror.result)
        hold.set()
        async with asyncio.timeout(SECONDS):
            async for _ in mirror.progress():
                pass

    assert during == (1000, "")
    assert (heard[0], heard[-1]) == (1000, len(BODY))


async def test_what_cannot_be_reached_at_first_is_fetched_when_it_can(
    stage: Stage,
) -> None:
    """BF-LIFE-06, BF-REC-08: the fetch registers offline, and waits."""
    with closing(socket.socket()) as bound:  # nobody listens there, so it refuses
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/"
        registration = await stage.manager.fetch("x", url)
        [record] = await registration.match_all()

        async with stage.performing(registration):
            while not (await record.refresh()).attempts:
                pass
            before = (record.result, registration.result)
            server = await asyncio.start_server(_answer, sock=bound)

        server.close()
        await server.wait_closed()
    assert before == ("", "")
    assert registration.result == "success"
    assert await (await record.response_ready).read() == b"here"


async def test_no_bytes_of_two_origins_become_one_body(stage: Stage) -> None:
    """BF-SEC-15, R7: the same validator elsewhere proves nothing."""
    other = stage.origin.url("/b").replace("127.0.0.1", "localhost")
    stage.origin.add("/b", BODY[::-1], etag='"same"')
    hold = asyncio.Event()
    stage.origin.add(
        "/", BODY, etag='"same"', cut_after=[100_000], hold=hold, hold_after=50_000
    )
    registration = await stage.fetch("/")

    async with stage.performing(registration):
        await until_downloaded(registration, 50_000)
        stage.origin.add("/", b"", status=302, headers={"Location": other})
        hold.set()

    assert registration.result == "success"
    assert await stage.read(registration, "/") == BODY[::-1]


async def test_what_is_redirected_to_a_forbidden_place_fails_its_record_alone(
    stage: Stage,
) -> None:
    """BF-FETCH-24, BF-SEC-06, BF-SEC-08: without a connection to it."""
    stage.origin.add("/a", b"good")
    stage.origin.add("/b", b"", status=302, headers={"Location": "ftp://e.example/"})
    stage.origin.add(
        "/c", b"", status=302, headers={"Location": "http://e.example:25/"}
    )

    registration = await stage.perform(await stage.fetch("/a", "/b", "/c"))

    assert registration.failure_reason == "fetch-error"
    assert await stage.read(registration, "/a") == b"good"
    for path in ("/b", "/c"):
        with pytest.raises(RecordFailed):
            await (await stage.record(registration, path)).response_ready


async def test_a_download_total_of_zero_is_no_limit(
    stage: Stage, settings: Settings
) -> None:
    """BF-REC-16."""
    stage.origin.add("/a", BODY)

    registration = await stage.perform(await stage.fetch("/a", download_total=0))

    assert (registration.result, registration.downloaded) == ("success", len(BODY))


async def test_beyond_the_download_total_everything_ends_at_once(stage: Stage) -> None:
    """BF-PERF-03, BF-PERF-10, BF-REC-15: what is still under way has been aborted."""
    stage.origin.add("/slow", BODY, hold=asyncio.Event(), hold_after=10)
    stage.origin.add("/large", BODY)
    registration = await stage.fetch("/missing", "/slow", "/large", download_total=999)

    await stage.perform(registration)

    assert registration.failure_reason == "download-total-exceeded"
    assert registration.downloaded <= 999
    with pytest.raises(Aborted):
        await (await stage.record(registration, "/slow")).response_ready
    with pytest.raises(RecordFailed, match="download-total-exceeded"):
        await (await stage.record(registration, "/large")).response_ready


async def test_whenever_an_abort_comes_there_is_one_event_and_its_answer_says_which(
    stage: Stage,
) -> None:
    """BF-ABORT-04, BF-PERF-05, BF-PERF-07: True is abort, False is success."""
    stage.origin.add("/a", b"body")
    answers: dict[str, bool] = {}

    for moment in range(36):
        registration = await stage.fetch("/a", id=f"x{moment}")
        async with stage.performing(registration):
            for _ in range(moment // 6):
                await stage.manager.connection.ping()
            for _ in range(moment % 6 * 5):
                await asyncio.sleep(0)
            answers[registration.uid] = await registration.abort()
        expected = "failure" if answers[registration.uid] else "success"
        assert registration.result == expected

    ask = stage.manager.connection.ask
    rows = await ask("XRANGE", ScopeKeys(SCOPE).events, "-", "+")
    published = [fields[b"delivery"].decode() for _, fields in rows]
    assert sorted(published) == sorted(
        f"{uid}/backgroundfetch{'abort' if aborted else 'success'}"
        for uid, aborted in answers.items()
    )
