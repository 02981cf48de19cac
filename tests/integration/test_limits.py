"""What ends one record and leaves the others alone: its deadline, and its size."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import pytest

from broker.keys import FetchKeys
from broker.manager import BackgroundFetchManager
from broker.record import BackgroundFetchRecord
from broker.registration import BackgroundFetchRegistration
from broker.settings import Settings
from schemas.requests import Request
from tests.integration.clock import SCOPE
from tests.integration.wire import Scripted
from workers.demo.origin import Origin
from workers.engine import Engine

BODY = bytes(range(256)) * 400
LIMIT = len(BODY)
Perform = Callable[..., Awaitable[list[BackgroundFetchRecord]]]


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as running:
        running.add("/a", BODY)
        yield running


@pytest.fixture
def perform(settings: Settings) -> Perform:
    """Return the function that carries a fetch under some settings of its own."""

    async def perform(
        registration: BackgroundFetchRegistration, **own: object
    ) -> list[BackgroundFetchRecord]:
        engine = Engine(settings.model_copy(update=own), reclaiming=False)
        await engine.start()
        try:
            async with asyncio.timeout(30):
                await engine.perform(SCOPE, registration.uid, "job")
        finally:
            await engine.aclose()
        await registration.refresh()
        return [await each.refresh() for each in await registration.match_all()]

    return perform


async def test_a_record_gives_up_at_its_deadline_and_the_others_go_on(
    manager: BackgroundFetchManager, origin: Origin, perform: Perform
) -> None:
    origin.add("/slow", BODY, rate=5_000)
    fetch = await manager.fetch("x", [origin.url("/slow"), origin.url("/a")])

    slow, fast = await perform(fetch, record_deadline=timedelta(seconds=3))

    assert slow.result == "fetch-error"
    assert slow.failure_reason == (
        "no end within 3 s of its first attempt (BGFETCH_RECORD_DEADLINE)"
    )
    assert fast.result == "success"
    assert fetch.failure_reason == "fetch-error"


async def test_attempts_end_with_the_deadline_of_the_record(
    manager: BackgroundFetchManager, perform: Perform
) -> None:
    """An origin that is away would be asked for as long as the fetch lives."""
    async with Scripted(b"") as gone:
        pass
    fetch = await manager.fetch("x", gone.url)

    [record] = await perform(fetch, record_deadline=timedelta(seconds=3))

    assert record.result == "fetch-error"
    assert record.failure_reason.startswith("offline: ")
    assert record.attempts > 1


async def test_the_time_of_an_earlier_lane_counts(
    manager: BackgroundFetchManager,
    origin: Origin,
    settings: Settings,
    perform: Perform,
) -> None:
    origin.add("/a", BODY, hold=asyncio.Event(), hold_after=1000)
    fetch = await manager.fetch("x", origin.url("/a"))
    deadline = timedelta(minutes=10)
    engine = Engine(
        settings.model_copy(update={"record_deadline": deadline}), reclaiming=False
    )
    await engine.start()
    working = asyncio.create_task(engine.perform(SCOPE, fetch.uid, "job"))
    async for progress in fetch.progress():
        if progress.downloaded:
            break
    await engine.drain()
    await working
    await engine.aclose()

    created = FetchKeys(SCOPE, fetch.uid).fetch
    await manager.connection.ask("HINCRBY", created, "createdAt", -11 * 60 * 1000)
    [record] = await perform(fetch, record_deadline=deadline)

    assert record.result == "fetch-error"
    assert "no end within 600 s of its first attempt" in record.failure_reason


async def test_a_record_that_starts_late_has_its_whole_time(
    manager: BackgroundFetchManager, origin: Origin, perform: Perform
) -> None:
    fetch = await manager.fetch("x", origin.url("/a"))
    created = FetchKeys(SCOPE, fetch.uid).fetch
    await manager.connection.ask("HINCRBY", created, "createdAt", -11 * 60 * 1000)

    [record] = await perform(fetch, record_deadline=timedelta(minutes=10))

    assert record.result == "success"


async def test_a_record_may_be_as_long_as_the_limit_and_no_longer(
    manager: BackgroundFetchManager, origin: Origin, perform: Perform
) -> None:
    """BF-REC-17, faults 38: refused by its head, or where it grows beyond."""

    async def endless(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(BODY)
            await writer.drain()

    origin.add("/longer", BODY + b"x", hold=asyncio.Event(), hold_after=0)
    origin.add("/missing", BODY + b"x", status=404)
    async with Scripted(endless) as without_length:
        paths = [origin.url(path) for path in ("/a", "/longer", "/missing")]
        head = Request(origin.url("/longer"), method="HEAD")
        fetch = await manager.fetch("x", [*paths, without_length.url, head])

        records = await perform(fetch, max_record_bytes=LIMIT)

    results = [str(record.result) for record in records]
    assert results == ["success", *["quota-exceeded"] * 3, "success"]
    assert records[1].failure_reason == (
        f"more than {LIMIT} bytes in one record (BGFETCH_MAX_RECORD_BYTES)"
    )
    assert fetch.failure_reason == "quota-exceeded"
