"""Bodies from the blob store to the origin, each request sent once (BF-REC-07, 11)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from broker.agenda import Agenda
from broker.keys import FetchKeys
from broker.manager import BackgroundFetchManager
from broker.registration import BackgroundFetchRegistration
from broker.settings import Settings
from schemas.fetches import FailureReason, Result
from schemas.records import RecordResult
from schemas.requests import Request
from tests.integration.clock import SCOPE, Clock
from tests.integration.wire import Scripted, resident_bytes
from tests.integration.working import perform
from workers.demo.origin import Origin
from workers.engine import Engine

MIB = 1024 * 1024
LARGE = bytes(range(256)) * (8 * 4096)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"
KEY = {"Idempotency-Key": "1"}


async def told(registration: BackgroundFetchRegistration) -> str:
    [record] = await registration.match_all()
    return (await record.refresh()).failure_reason


def blob_of(settings: Settings) -> Path:
    [blob] = (settings.store_directory / "blobs").iterdir()
    return blob


async def head_of(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


async def test_a_stored_body_arrives_whole_and_is_counted(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin
) -> None:
    """BF-REC-07, BF-PROG-11, BF-REC-29."""
    origin.add("/", b"thanks")
    small, large = (
        Request(origin.url("/"), method=method, body=body)
        for method, body in (("POST", "small"), ("PUT", iter([LARGE])))
    )

    registration = await perform(engine, await manager.fetch("a", [small, large]))

    assert registration.result is Result.SUCCESS
    assert registration.uploaded == registration.upload_total == 5 + len(LARGE)
    assert {seen.method: seen.body for seen in origin.log} == {
        "POST": b"small",
        "PUT": LARGE,
    }
    records = await registration.match_all()
    assert [(await record.refresh()).attempts for record in records] == [1, 1]


async def test_progress_is_visible_while_the_origin_reads_slowly(
    manager: BackgroundFetchManager, engine: Engine
) -> None:
    """BF-REC-07, BF-PROG-11: it never falls, and is whole before a byte comes back."""
    more, body = asyncio.Event(), LARGE * 4  # more than sockets hold

    async def sip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        writer.write(GO_ON)
        await reader.readexactly(MIB)
        await more.wait()
        await reader.readexactly(len(body) - MIB)
        writer.write(OK)
        await writer.drain()

    async with Scripted(sip) as slow:
        request = Request(slow.url, method="POST", body=body)
        registration = await manager.fetch("a", request)
        working = asyncio.create_task(perform(engine, registration))
        seen = []
        async with asyncio.timeout(60):
            async for progress in registration.progress():
                seen.append((progress.uploaded, progress.downloaded))
                if progress.uploaded >= MIB:
                    more.set()
        await working

    uploaded = [count for count, _ in seen]
    assert uploaded == sorted(uploaded)
    assert any(0 < count < len(body) for count in uploaded)
    assert all(count == len(body) for count, downloaded in seen if downloaded)
    assert seen[-1] == (len(body), 2)


@pytest.mark.parametrize(
    ("status", "method", "sent"),
    [
        (307, "POST", True),
        (308, "PUT", True),
        (303, "PUT", False),
        (302, "POST", False),
        (302, "PUT", True),
    ],
)
@pytest.mark.parametrize("body", [b"small", LARGE])
async def test_a_redirect_takes_the_body_along_from_its_start_or_drops_it(
    manager: BackgroundFetchManager,
    engine: Engine,
    origin: Origin,
    status: int,
    method: str,
    sent: bool,
    body: bytes,
) -> None:
    """BF-SEC-11, faults 30."""
    origin.add("/a", b"", status=status, headers={"Location": "/b"})
    origin.add("/b", b"here")
    request = Request(
        origin.url("/a"), method=method, body=body, headers={"Content-Type": "a/b"}
    )

    registration = await perform(engine, await manager.fetch("a", request))

    assert registration.result is Result.SUCCESS
    first, second = origin.log
    assert (first.method, first.body) == (method, body)
    assert (second.method, second.body) == ((method, body) if sent else ("GET", b""))
    assert ("content-type" in second.headers) == sent
    assert registration.uploaded == len(body)


async def test_a_redirect_that_comes_instead_of_continue_saves_the_body(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin
) -> None:
    origin.add("/b", b"here")
    after_head = 0

    async def redirect(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        nonlocal after_head
        await head_of(reader)
        location = origin.url("/b").encode()
        writer.write(b"HTTP/1.1 307 Elsewhere\r\nLocation: " + location + b"\r\n")
        writer.write(b"Content-Length: 0\r\n\r\n")
        while chunk := await reader.read(MIB):
            after_head += len(chunk)

    async with Scripted(redirect) as first:
        request = Request(first.url, method="POST", body=LARGE)
        registration = await perform(engine, await manager.fetch("a", request))

    assert registration.result is Result.SUCCESS
    assert after_head == 0
    assert [seen.body for seen in origin.log] == [LARGE]


async def test_a_body_that_is_gone_fails_its_record_and_nothing_is_sent(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin, settings: Settings
) -> None:
    origin.add("/", b"")
    request = Request(origin.url("/"), method="POST", body=LARGE)
    registration = await manager.fetch("a", request)
    blob_of(settings).unlink()

    await perform(engine, registration)

    assert registration.failure_reason is FailureReason.FETCH_ERROR
    assert "ENOENT" in await told(registration)
    assert origin.connections == 0


@pytest.mark.parametrize("change", [LARGE[:-1], LARGE + b"x"])
async def test_a_body_of_another_length_fails_its_record_and_nothing_is_sent(
    manager: BackgroundFetchManager,
    engine: Engine,
    origin: Origin,
    settings: Settings,
    change: bytes,
) -> None:
    origin.add("/", b"")
    request = Request(origin.url("/"), method="POST", body=LARGE)
    registration = await manager.fetch("a", request)
    blob_of(settings).write_bytes(change)

    await perform(engine, registration)

    assert registration.failure_reason is FailureReason.FETCH_ERROR
    assert f"does not have {len(LARGE)} bytes" in await told(registration)
    assert origin.connections == 0


async def test_a_damaged_body_never_arrives_whole(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin, settings: Settings
) -> None:
    """R6."""
    origin.add("/", b"")
    request = Request(origin.url("/"), method="POST", body=LARGE)
    registration = await manager.fetch("a", request)
    blob_of(settings).write_bytes(b"x" + LARGE[1:])

    await perform(engine, registration)

    assert registration.failure_reason is FailureReason.FETCH_ERROR
    assert "its sha256 is not" in await told(registration)
    assert origin.connections == 1
    assert origin.log == []


async def test_a_worker_without_the_body_leaves_the_record_to_one_that_has_it(
    manager: BackgroundFetchManager,
    engine: Engine,
    origin: Origin,
    settings: Settings,
    tmp_path: Path,
) -> None:
    """R4, R25: it waits with a clear reason, and nothing was sent."""
    origin.add("/", b"")
    request = Request(origin.url("/"), method="POST", body=LARGE)
    registration = await manager.fetch("a", request)
    keys = FetchKeys(SCOPE, registration.uid)
    other = Engine(settings.model_copy(update={"store": tmp_path / "other"}))
    await other.start()
    await perform(other, registration)
    await other.aclose()

    assert registration.result is Result.ACTIVE
    reason = await told(registration)
    assert "BGFETCH_STORE" in reason
    assert str(tmp_path / "other") in reason
    assert origin.connections == 0

    await manager.connection.ask("ZADD", keys.pool, 0, 0)
    again = await perform(engine, registration)
    assert again.state.result is Result.SUCCESS
    assert [seen.body for seen in origin.log] == [LARGE]


async def test_a_worker_without_the_body_gives_up_at_the_deadline(
    manager: BackgroundFetchManager, origin: Origin, settings: Settings, tmp_path: Path
) -> None:
    request = Request(origin.url("/"), method="POST", body=LARGE)
    registration = await manager.fetch("a", request)
    changes = {"store": tmp_path / "other", "deadline": timedelta(0)}
    other = Engine(settings.model_copy(update=changes))
    await other.start()
    await perform(other, registration)
    await other.aclose()

    assert registration.failure_reason is FailureReason.FETCH_ERROR
    assert "BGFETCH_STORE" in await told(registration)


class Interrupting:
    """Takes whole requests, cuts the first so many, and answers those that follow."""

    def __init__(self, length: int, cuts: int = 10**9) -> None:
        self.requests = 0
        self._length = length
        self._cuts = cuts

    async def __call__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Play to one connection."""
        await head_of(reader)
        writer.write(GO_ON)
        await reader.readexactly(self._length)
        self.requests += 1
        if self.requests > self._cuts:
            writer.write(OK)
            await writer.drain()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_a_request_with_a_body_that_is_interrupted_is_not_sent_again(
    manager: BackgroundFetchManager, engine: Engine, method: str
) -> None:
    """Faults 63, BF-REC-21."""
    play = Interrupting(len(LARGE))
    async with Scripted(play) as origin:
        request = Request(origin.url, method=method, body=LARGE)
        registration = await perform(engine, await manager.fetch("a", request))

    assert registration.failure_reason is FailureReason.FETCH_ERROR
    assert registration.uploaded == len(LARGE)
    assert play.requests == origin.connections == 1


async def test_a_body_cut_midway_is_not_sent_again(
    manager: BackgroundFetchManager, engine: Engine
) -> None:
    """Faults 63: the origin may have made use of what it had."""
    play = Interrupting(len(LARGE) // 2)
    async with Scripted(play) as origin:
        request = Request(origin.url, method="POST", body=LARGE)
        registration = await perform(engine, await manager.fetch("a", request))

    assert registration.failure_reason is FailureReason.FETCH_ERROR
    assert play.requests == origin.connections == 1


async def test_a_request_with_an_idempotency_key_is_sent_again(
    manager: BackgroundFetchManager, engine: Engine
) -> None:
    """BF-REC-11, BF-REC-02: with the same body."""
    play = Interrupting(len(LARGE), cuts=2)
    async with Scripted(play) as origin:
        request = Request(origin.url, method="POST", body=LARGE, headers=KEY)
        registration = await perform(engine, await manager.fetch("a", request))

    assert registration.result is Result.SUCCESS
    assert registration.uploaded == registration.upload_total
    assert play.requests == 3


class Held:
    """Takes a request, tells so, and answers when it may."""

    def __init__(self) -> None:
        self.taken = asyncio.Event()
        self.may = asyncio.Event()
        self.requests = 0

    async def __call__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Play to one connection."""
        await head_of(reader)
        await reader.readexactly(4)
        self.requests += 1
        self.taken.set()
        await self.may.wait()
        writer.write(OK)
        await writer.drain()


@pytest.mark.parametrize("key", [{}, KEY])
async def test_a_request_under_way_in_a_lane_that_died_is_not_sent_again(
    manager: BackgroundFetchManager,
    engine: Engine,
    settings: Settings,
    clock: Clock,
    key: dict[str, str],
) -> None:
    """Redis knows of the attempt before the origin does; BF-REC-11 with a key."""
    play = Held()
    async with Scripted(play) as origin, asyncio.timeout(60):
        request = Request(origin.url, method="POST", body=b"body", headers=key)
        registration = await manager.fetch("a", request)
        keys = FetchKeys(SCOPE, registration.uid)
        dying = asyncio.create_task(engine.perform(SCOPE, registration.uid, "job"))
        await play.taken.wait()
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)
        await clock.age_lanes(keys, settings.lease * 2)
        await Agenda(manager.connection, settings).look(keys)
        play.may.set()

        await perform(engine, registration)

    if key:
        assert registration.result is Result.SUCCESS
    else:
        assert registration.failure_reason is FailureReason.FETCH_ERROR
        assert "POST is sent once" in await told(registration)
    assert play.requests == (2 if key else 1)


async def test_a_worker_that_leaves_lets_a_request_come_to_its_end(
    manager: BackgroundFetchManager, engine: Engine
) -> None:
    """It stops the others, which somebody else can go on with."""
    play, stopped = Held(), asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
        while await reader.read(MIB):
            pass
        stopped.set()

    async with Scripted(play) as origin, Scripted(drip) as other, asyncio.timeout(60):
        post = Request(origin.url, method="POST", body=b"body")
        registration = await manager.fetch("a", [other.url, post])
        keys = FetchKeys(SCOPE, registration.uid)
        leaving = asyncio.create_task(engine.perform(SCOPE, registration.uid, "job"))
        await play.taken.wait()
        await engine.drain()
        await stopped.wait()
        assert not leaving.done()
        play.may.set()
        await leaving

    record = await registration.match(origin.url, ignore_method=True)
    assert record is not None
    assert (await record.refresh()).result is RecordResult.SUCCESS
    await registration.refresh()
    assert registration.result is Result.ACTIVE
    assert await manager.connection.ask("HLEN", keys.lanes) == 0


async def test_a_long_body_does_not_fill_the_worker(
    manager: BackgroundFetchManager, engine: Engine
) -> None:
    """64 MiB, sent from the file block by block."""
    size = 64 * MIB
    peak = 0

    async def swallow(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        nonlocal peak
        await head_of(reader)
        writer.write(GO_ON)
        left = size
        while left:
            left -= len(await reader.read(min(left, MIB)))
            peak = max(peak, resident_bytes())
        writer.write(OK)
        await writer.drain()

    async with Scripted(swallow) as origin:
        body = (bytes(MIB) for _ in range(64))
        request = Request(origin.url, method="POST", body=body)
        registration = await manager.fetch("a", request)
        before = resident_bytes()
        await perform(engine, registration)

    assert registration.result is Result.SUCCESS
    assert registration.uploaded == size
    assert peak - before < 24 * MIB
