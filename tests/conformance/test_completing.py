"""§ Complete a record, and § validate a partial response."""

from __future__ import annotations

import asyncio
import re

import pytest

from broker import Request
from tests.conformance.stage import Stage
from tests.integration.wire import Scripted

BODY = bytes(range(256)) * 1024


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


async def test_pieces_are_asked_for_until_the_whole_is_there(stage: Stage) -> None:
    """BF-REC-20, BF-RANGE-01: the server never gives more than a thousand bytes."""
    body = BODY[:2500]

    async def give(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        wanted = re.search(r"range: bytes=(\d+)-", head)
        start = int(wanted[1]) if wanted else 0
        asked.append(start)
        piece = body[start : start + 1000]
        last = start + len(piece) - 1
        writer.write(
            f"HTTP/1.1 206 Partial Content\r\nConnection: close\r\n"
            f'ETag: "v1"\r\nContent-Length: {len(piece)}\r\n'
            f"Content-Range: bytes {start}-{last}/2500\r\n\r\n".encode()
        )
        writer.write(piece)
        await writer.drain()

    asked: list[int] = []
    async with Scripted(give) as server:
        registration = await stage.perform(await stage.manager.fetch("x", server.url))

        [record] = await registration.match_all()
        assert registration.result == "success"
        assert asked == [0, 1000, 2000]
        assert await (await record.response_ready).read() == body


async def test_an_answer_without_a_body_is_an_empty_body(stage: Stage) -> None:
    """BF-REC-26, BF-REC-19: 204 and 205 are good, HEAD has none."""
    stage.origin.add("/204", b"", status=204)
    stage.origin.add("/205", b"", status=205)
    stage.origin.add("/a", BODY)
    wanted: list[str | Request] = [
        stage.origin.url("/204"),
        stage.origin.url("/205"),
        Request(stage.origin.url("/a"), method="HEAD"),
    ]

    registration = await stage.perform(await stage.manager.fetch("x", wanted))

    assert registration.result == "success"
    responses = [
        await record.response_ready for record in await registration.match_all()
    ]
    assert [each.status for each in responses] == [204, 205, 200]
    assert [await each.read() for each in responses] == [b"", b"", b""]


@pytest.mark.parametrize("method", ["POST", "PUT", "HEAD", "DELETE"])
async def test_what_is_not_get_is_sent_once_whatever_breaks(
    stage: Stage, method: str
) -> None:
    """BF-REC-09, BF-REC-11, BF-REC-21."""
    async with Scripted(b"HTTP/1.1 200 OK\r\nContent-") as server:
        wanted = Request(server.url, method=method)
        registration = await stage.perform(await stage.manager.fetch("x", wanted))

        assert registration.failure_reason == "fetch-error"
        assert server.connections == 1


async def test_a_continued_body_keeps_the_head_of_its_first_answer(
    stage: Stage,
) -> None:
    """BF-REC-14, BF-OBJ-03: but for the length and the range."""
    stage.origin.add("/a", BODY, cut_after=[100_000], headers={"X-Mine": "1"})
    registration = await stage.perform(await stage.fetch("/a"))

    response = await (await stage.record(registration, "/a")).response_ready

    assert len(stage.origin.log) == 2
    assert (response.status, response.url) == (200, stage.origin.url("/a"))
    assert response.headers["x-mine"] == "1"
    assert "content-range" not in response.headers
    assert "content-length" not in response.headers
    assert await response.read() == BODY
