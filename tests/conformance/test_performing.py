"""§ Perform a background fetch, complete a record, validate a partial response."""

from __future__ import annotations

import asyncio
import socket
from contextlib import closing

import pytest

from broker import BackgroundFetchManager, Request
from broker.settings import Settings
from schemas.errors import RecordFailed
from tests.conformance.stage import SECONDS, Stage, until_downloaded
from tests.integration.wire import Scripted

BODY = bytes(range(256)) * 1024


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


async def test_an_attempt_repeats_the_request_as_it_was(stage: Stage) -> None:
    """BF-REC-02, BF-REC-03, BF-REC-05, BF-REC-06: and adds Range and its proof."""
    stage.origin.add("/a", BODY, cut_after=[100_000])
    wanted = Request(stage.origin.url("/a"), headers={"X-Mine": "1", "Accept": "a/b"})

    registration = await stage.perform(await stage.manager.fetch("x", wanted))

    first, second = stage.origin.log
    added = {"range", "if-range"}
    assert registration.result == "success"
    assert set(second.headers) - set(first.headers) == added
    assert {name: second.headers[name] for name in first.headers} == first.headers
    assert second.headers["range"].startswith("bytes=")
    assert second.headers["range"].endswith("-")
    assert (first.headers["x-mine"], first.headers["accept"]) == ("1", "a/b")
    assert first.headers["accept-encoding"] == "identity"


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


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nhere"
    )
    await writer.drain()
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    "empty",
    [
        b"Content-Range: bytes 0-99/100\r\nContent-Length: 0",
        b"Content-Range: bytes 0-99/100\r\nContent-Length: 100",
        b"Content-Range: bytes */100\r\nContent-Length: 0",
    ],
)
async def test_a_server_that_answers_with_empty_pieces_for_ever_is_given_up(
    stage: Stage, empty: bytes
) -> None:
    """BF-REC-27: at the latest after as many attempts as may pass without a byte."""
    async with Scripted(b"HTTP/1.1 206 Partial\r\n" + empty + b"\r\n\r\n") as server:
        registration = await stage.perform(await stage.manager.fetch("x", server.url))

        assert registration.failure_reason == "fetch-error"
        assert 1 <= server.connections <= stage.settings.max_attempts


async def test_a_body_that_its_server_cut_is_never_taken_for_whole(
    stage: Stage,
) -> None:
    """BF-REC-25: by Content-Length and by chunks; without either it cannot be seen."""
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
    whole = head + b"\r\nall there is"
    async with (
        Scripted(head + b"Content-Length: 9\r\n\r\nhalf") as by_length,
        Scripted(head + b"Transfer-Encoding: chunked\r\n\r\n9\r\nhalf") as by_chunks,
        Scripted(whole) as by_close,
    ):
        urls = [each.url for each in (by_length, by_chunks, by_close)]
        registration = await stage.perform(await stage.manager.fetch("x", urls))

        results = [
            (await record.refresh()).result for record in await registration.match_all()
        ]

    assert results == ["fetch-error", "fetch-error", "success"]


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
