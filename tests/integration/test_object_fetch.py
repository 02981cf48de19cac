"""A fetch from end to end, its bytes in a bucket: a real S3 protocol, a real origin."""

from __future__ import annotations

import asyncio
import hashlib
import random
import threading
from collections.abc import Callable
from datetime import timedelta
from itertools import count

import pytest
from typing_extensions import override

from broker import gathering, objects
from broker.bucket import Bucket
from broker.budget import Budget
from broker.keys import FetchKeys
from broker.manager import BackgroundFetchManager
from broker.records import RecordReader
from broker.registration import BackgroundFetchRegistration
from broker.settings import Settings
from broker.sweep import Sweep
from schemas.bodies import BodyStream
from schemas.errors import StorageError
from schemas.requests import Request
from tests.integration.clock import SCOPE, Clock
from tests.integration.working import perform
from workers.demo.origin import Origin
from workers.engine import Engine

BODY = random.Random(3).randbytes(5_000_000)


@pytest.fixture
def settings(settings: Settings, s3_url: str) -> Settings:
    return settings.model_copy(
        update={"store": s3_url, "checkpoint_interval": timedelta(milliseconds=50)}
    )


async def bodies_of(registration: BackgroundFetchRegistration) -> list[bytes]:
    records = await registration.match_all()
    return [await (await record.response_ready).read() for record in records]


def objects_in(url: str | None) -> list[str]:
    bucket = Bucket(url or "")
    return [each.path for place in ("parts", "blobs") for each in bucket.list(place)]


async def test_a_group_of_files_arrives_whole(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin
) -> None:
    """Guarantee 2; the empty one too, and what stands in an error's answer."""
    bodies = [BODY, b"", BODY[:70_000]]
    for n, body in enumerate(bodies):
        origin.add(f"/{n}", body)
    urls = [origin.url(f"/{n}") for n in range(len(bodies))]

    registration = await perform(engine, await manager.fetch("x", urls))

    assert registration.result == "success"
    assert registration.downloaded == sum(map(len, bodies))
    assert await bodies_of(registration) == bodies


async def test_transfers_pause_while_memory_is_short_and_go_on(
    manager: BackgroundFetchManager,
    settings: Settings,
    origin: Origin,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Many at once, one of them silent, with room for a fraction of their bytes."""
    pauses: list[object] = []

    class Small(Budget):
        @override
        def wait(self, wake: Callable[[], None]) -> None:
            pauses.append(wake)
            super().wait(wake)

    monkeypatch.setattr(objects, "Budget", lambda: Small(400_000))
    gate = asyncio.Event()
    bodies = {f"/{n}": BODY[n * 1000 :][:400_000] for n in range(16)}
    for path, body in bodies.items():
        origin.add(path, body, hold=gate if path == "/0" else None)
    engine = Engine(settings, reclaiming=False)
    await engine.start()
    registration = await manager.fetch("x", [origin.url(path) for path in bodies])

    lane = asyncio.create_task(perform(engine, registration))
    async with asyncio.timeout(60):
        async for progress in registration.progress():
            if progress.downloaded >= 15 * 400_000:
                break
    gate.set()
    await lane

    assert pauses
    assert registration.result == "success"
    assert await bodies_of(registration) == list(bodies.values())
    await engine.aclose()


async def test_a_body_is_read_while_it_arrives_and_another_machine_goes_on_with_it(
    manager: BackgroundFetchManager, settings: Settings, origin: Origin
) -> None:
    """R4, R6, R8: the second has nothing of the first but Redis and the bucket."""
    gate = asyncio.Event()
    origin.add("/", BODY, hold=gate, hold_after=4_000_000)
    registration = await manager.fetch("x", origin.url("/"))
    first, second = Engine(settings), Engine(settings)
    await first.start()
    await second.start()
    lane = asyncio.create_task(first.perform(SCOPE, registration.uid, "one"))
    [record] = await registration.match_all()
    async with asyncio.timeout(60):
        response = await record.response_ready
        reading = response.body
        seen = b""
        while len(seen) < 2_000_000:
            seen += await anext(reading)
        await first.drain()
        await lane
        gate.set()
        await perform(second, registration)
        async for block in reading:
            seen += block

    assert registration.result == "success"
    assert seen == BODY
    assert origin.log[-1].headers["range"] == "bytes=4000000-"
    look = await RecordReader(manager.connection, settings).look(
        FetchKeys(SCOPE, registration.uid), 0
    )
    assert look.state.digest == hashlib.sha256(BODY).hexdigest()
    await first.aclose()
    await second.aclose()


async def test_the_body_of_a_request_goes_through_the_bucket(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin
) -> None:
    """A body too large for its message; sent from a copy of its own."""
    origin.add("/", b"thanks")
    request = Request(origin.url("/"), method="POST", body=BODY)

    registration = await perform(engine, await manager.fetch("x", request))

    assert registration.result == "success"
    assert registration.uploaded == len(BODY)
    assert [seen.body for seen in origin.log] == [BODY]


async def test_a_store_that_refuses_fails_the_record_and_says_why(
    manager: BackgroundFetchManager,
    engine: Engine,
    origin: Origin,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The others go on; nothing half is visible."""
    monkeypatch.setattr(gathering, "PIECE", 500_000)
    put = Bucket.put

    def refusing(self: Bucket, path: str, data: bytes | list[bytes]) -> None:
        size = sum(map(len, data)) if isinstance(data, list) else 0
        if size >= 500_000 or size == 12_345:
            raise StorageError(f"PermissionDenied: {self.place}: AccessDenied")
        put(self, path, data)

    monkeypatch.setattr(Bucket, "put", refusing)
    origin.add("/large", BODY)
    origin.add("/small", BODY[:12_345])
    origin.add("/good", BODY[:70_000])
    urls = [origin.url(path) for path in ("/large", "/small", "/good")]

    registration = await perform(engine, await manager.fetch("x", urls))

    assert registration.failure_reason == "fetch-error"
    large, small, good = await registration.match_all()
    for record in (large, small):
        await record.refresh()
        assert record.failure_reason == (
            f"PermissionDenied: {Bucket(str(engine._settings.store)).place}: "
            "AccessDenied"
        )
    assert await (await good.response_ready).read() == BODY[:70_000]


async def test_released_bytes_really_go(
    manager: BackgroundFetchManager,
    engine: Engine,
    settings: Settings,
    origin: Origin,
    clock: Clock,
) -> None:
    """R16, and nothing is left for a sweep."""
    origin.add("/", BODY)
    registration = await perform(engine, await manager.fetch("x", origin.url("/")))
    keys = FetchKeys(SCOPE, registration.uid)
    stored = objects_in(settings.store_url)

    await clock.age_settlement(keys, settings.retention)
    await engine.reclaimer.look(keys)  # released
    await clock.age_settlement(keys, settings.release_grace)
    await engine.reclaimer.look(keys)  # bytes deleted

    assert stored
    assert objects_in(settings.store_url) == []


async def test_bodies_are_sent_from_the_bucket_and_go_with_the_records(
    manager: BackgroundFetchManager,
    engine: Engine,
    settings: Settings,
    origin: Origin,
    clock: Clock,
) -> None:
    """BF-FETCH-14, BF-OBJ-01, R16; a redirect reads them a second time."""
    origin.add("/a", b"", status=307, headers={"Location": "/b"})
    origin.add("/b", b"")
    bodies = [BODY, BODY[:70_000]]
    requests = [
        Request(origin.url("/a"), method="POST", body=iter([body])) for body in bodies
    ]

    registration = await perform(engine, await manager.fetch("x", requests))

    assert registration.result == "success"
    assert registration.uploaded == sum(map(len, bodies))
    sent = [seen.body for seen in origin.log if seen.path == "/b"]
    assert sorted(sent, key=len) == sorted(bodies, key=len)
    [record, _] = await registration.match_all()
    assert isinstance(record.request.body, BodyStream)
    assert b"".join([chunk async for chunk in record.request.body]) == BODY
    keys = FetchKeys(SCOPE, registration.uid)
    for age in (settings.retention, settings.release_grace):
        await clock.age_settlement(keys, age)
        await engine.reclaimer.look(keys)
    assert objects_in(settings.store_url) == []


async def test_a_store_that_is_slow_holds_up_an_upload_and_nothing_else(
    manager: BackgroundFetchManager,
    engine: Engine,
    origin: Origin,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The transfer waits for its next block, the event loop does not."""
    origin.add("/", b"")
    origin.add("/other", b"")
    registration = await manager.fetch(
        "x", Request(origin.url("/"), method="POST", body=BODY)
    )
    other = await manager.fetch("y", origin.url("/other"))
    gate, read, reads = threading.Event(), Bucket.read, count()

    def slow(self: Bucket, path: str, start: int, size: int) -> bytes:
        if next(reads) == 2:  # the last byte, the first block, the second
            gate.wait(60)
        return read(self, path, start, size)

    monkeypatch.setattr(Bucket, "read", slow)
    sending = asyncio.create_task(perform(engine, registration))
    async with asyncio.timeout(60):
        async for progress in registration.progress():
            if progress.uploaded:
                break

    assert (await perform(engine, other)).result == "success"
    assert not sending.done()
    gate.set()
    assert (await sending).result == "success"
    assert [seen.body for seen in origin.log if seen.path == "/"] == [BODY]


async def test_a_body_that_is_gone_from_the_bucket_fails_its_record(
    manager: BackgroundFetchManager,
    engine: Engine,
    settings: Settings,
    origin: Origin,
) -> None:
    registration = await manager.fetch(
        "x", Request(origin.url("/"), method="POST", body=BODY)
    )
    bucket = Bucket(settings.store_url or "")
    bucket.delete(objects_in(settings.store_url))

    await perform(engine, registration)

    assert registration.failure_reason == "fetch-error"
    [record] = await registration.match_all()
    assert "ENOENT" in (await record.refresh()).failure_reason
    assert origin.connections == 0


async def test_what_a_dead_worker_left_in_a_bucket_is_swept(
    manager: BackgroundFetchManager,
    engine: Engine,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """R16."""
    reader = RecordReader(manager.connection, settings)
    await reader.open()
    part = reader.store.create()
    part.write(BODY)
    part.checkpoint()
    part.close()
    monkeypatch.setattr("broker.sweep.AGE", timedelta(days=-1))
    monkeypatch.setattr("broker.sweep.APART", timedelta(0))
    sweep = Sweep(manager.connection, reader.store)

    first, second = await sweep.run(), await sweep.run()

    assert first.waiting == second.deleted == (part.name,)
    assert objects_in(settings.store_url) == []
    reader.store.close()
