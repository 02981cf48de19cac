"""Request bodies from ``fetch()`` to the blob store, and what becomes of them there."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from broker.agenda import Agenda
from broker.blobs import DirectoryStore
from broker.keys import FetchKeys
from broker.manager import BackgroundFetchManager, connect
from broker.policies import write_policy
from broker.queue import JobQueue
from broker.settings import Settings
from schemas.bodies import MAX_INLINE_BYTES, Body, BodyStream
from schemas.errors import (
    DuplicateFetch,
    InvalidRequest,
    InvalidState,
    QuotaExceeded,
    StorageError,
    Unreachable,
)
from schemas.policies import ScopePolicy
from schemas.requests import Request
from tests.integration.clock import SCOPE, Clock
from workers.reclaim import Reclaimer

URL = "https://origin.example/upload"
LARGE = bytes(range(256)) * 1024
MIB = 1024 * 1024


def post(body: Body | None, path: str = "") -> Request:
    return Request(URL + path, method="POST", body=body)


async def chunks(content: bytes, size: int = 10_000) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def files(settings: Settings) -> list[Path]:
    """Everything that the store holds."""
    return [
        path
        for place in ("parts", "blobs")
        for path in (settings.store_directory / place).glob("*")
    ]


async def read(request: Request) -> bytes:
    """The body of a record's request."""
    body = request.body
    if isinstance(body, BodyStream):
        return b"".join([chunk async for chunk in body])
    assert isinstance(body, bytes)
    return body


def as_file(content: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "body"
    path.write_bytes(content)
    return path


SOURCES: dict[str, Callable[[bytes, Path], Body]] = {
    "bytes": lambda content, _: content,
    "bytearray": lambda content, _: bytearray(content),
    "memoryview": lambda content, _: memoryview(content),
    "text": lambda content, _: content.decode("latin-1"),
    "generator": lambda content, _: (content[i : i + 7] for i in range(0, 2**18, 7)),
    "list": lambda content, _: [content[:9], b"", bytearray(content[9:])],
    "asynchronous": lambda content, _: chunks(content),
    "path": as_file,
    "file": lambda content, _: io.BytesIO(content),
}


@pytest.mark.parametrize("size", [0, 1, MAX_INLINE_BYTES, MAX_INLINE_BYTES + 1, 2**18])
@pytest.mark.parametrize("kind", SOURCES)
async def test_a_body_of_any_kind_is_stored_whole_and_read_back(
    manager: BackgroundFetchManager,
    settings: Settings,
    tmp_path: Path,
    kind: str,
    size: int,
) -> None:
    """BF-FETCH-14, BF-FETCH-18, BF-OBJ-01; faults 14."""
    content = LARGE[:size]
    sent = content.decode("latin-1").encode() if kind == "text" else content

    registration = await manager.fetch("a", post(SOURCES[kind](content, tmp_path)))

    assert registration.upload_total == len(sent)
    [record] = await registration.match_all()
    assert await read(record.request) == sent
    assert await read(record.request) == sent
    assert len(files(settings)) == (len(sent) > MAX_INLINE_BYTES)


async def test_bodies_are_stored_when_fetch_returns_and_their_sources_may_go(
    manager: BackgroundFetchManager, tmp_path: Path
) -> None:
    """BF-FETCH-14; a file of the caller's own stays open."""
    path, file = as_file(LARGE, tmp_path), io.BytesIO(LARGE[::-1])
    requests = [post(path, "/1"), post(file, "/2"), post(chunks(LARGE), "/3")]

    registration = await manager.fetch("a", [*requests, post("é"), post(b"")])
    path.unlink()

    assert not file.closed
    assert registration.upload_total == 3 * len(LARGE) + 2
    bodies = [await read(each.request) for each in await registration.match_all()]
    assert bodies == [LARGE, LARGE[::-1], LARGE, "é".encode(), b""]


async def test_the_body_of_a_record_can_be_sent_again(
    manager: BackgroundFetchManager,
) -> None:
    [record] = await (await manager.fetch("a", post(LARGE))).match_all()

    again = await manager.fetch("b", record.request)

    [copy] = await again.match_all()
    assert await read(copy.request) == LARGE


async def test_small_bodies_need_no_store(
    manager: BackgroundFetchManager, settings: Settings
) -> None:
    registration = await manager.fetch("a", post(chunks(b"small")))

    assert registration.upload_total == 5
    assert not settings.store_directory.exists()


class Broken(Exception):
    """What a source of the caller's raises."""


def breaking(after: int) -> Iterator[bytes]:
    for _ in range(after):
        yield LARGE
    raise Broken("no more")


async def breaking_async(after: int) -> AsyncIterator[bytes]:
    for chunk in breaking(after):
        yield chunk


class Watched:
    """A stream that tells whether it was closed."""

    def __init__(self) -> None:
        self.closed = 0

    def blocking(self) -> Iterator[bytes]:
        """Give one chunk."""
        try:
            yield LARGE
        finally:
            self.closed += 1

    async def asynchronous(self) -> AsyncIterator[bytes]:
        """Give one chunk."""
        try:
            yield LARGE
        finally:
            self.closed += 1


@pytest.mark.parametrize("after", [0, 1, 20])
@pytest.mark.parametrize("source", [breaking, breaking_async])
async def test_a_body_that_breaks_off_leaves_nothing(
    manager: BackgroundFetchManager,
    settings: Settings,
    source: Callable[[int], Body],
    after: int,
) -> None:
    """BF-FETCH-15, faults 14: what was stored of others goes too, the id is free."""
    bodies = [post(LARGE, "/1"), post(source(after), "/2"), post(LARGE, "/3")]
    with pytest.raises(InvalidRequest, match=r"POST https://\S+/2 .*no more") as failed:
        await manager.fetch("a", bodies)

    assert isinstance(failed.value.__cause__, Broken)
    assert files(settings) == []
    assert await manager.connection.ask("KEYS", f"bgfetch:{SCOPE}*") == []
    await manager.fetch("a", post(LARGE))


async def test_streams_that_are_left_when_one_breaks_are_closed(
    manager: BackgroundFetchManager,
) -> None:
    """BF-FETCH-15: cancelled, and not to be read any more."""
    watched = Watched()
    started = watched.blocking(), watched.asynchronous()
    next(started[0])
    await anext(started[1])
    left = [post(started[0], "/1"), post(started[1], "/2")]
    with pytest.raises(InvalidRequest, match="no more"):
        await manager.fetch("a", [post(breaking(1)), *left])

    assert watched.closed == 2
    with pytest.raises(InvalidRequest, match="read before"):
        await manager.fetch("a", left[0])


async def test_a_source_that_does_not_give_bytes_is_told_so(
    manager: BackgroundFetchManager, tmp_path: Path
) -> None:
    as_file(b"text", tmp_path)
    with (tmp_path / "body").open() as text:
        for body in ([1, 2], ["text"], text):
            with pytest.raises(InvalidRequest, match="made of bytes"):
                await manager.fetch("a", post(body))  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="No such file"):
        await manager.fetch("a", post(tmp_path / "missing"))


async def test_a_stream_that_is_given_twice_is_refused_and_nothing_is_stored(
    manager: BackgroundFetchManager, settings: Settings
) -> None:
    """BF-FETCH-02."""
    request = post(chunks(LARGE))
    with pytest.raises(InvalidRequest, match="sent once"):
        await manager.fetch("a", [request, request])

    assert files(settings) == []


async def test_bodies_are_not_read_for_an_id_that_is_taken(
    manager: BackgroundFetchManager, settings: Settings
) -> None:
    watched = Watched()
    await manager.fetch("a", post(b""))

    with pytest.raises(DuplicateFetch):
        await manager.fetch("a", post(watched.blocking()))

    assert not settings.store_directory.exists()


async def test_of_two_fetches_with_one_id_the_bodies_of_the_loser_are_deleted(
    manager: BackgroundFetchManager, settings: Settings
) -> None:
    """Faults 2 with bodies: both are read before either is registered."""
    both = asyncio.Barrier(2)

    async def meeting(content: bytes) -> AsyncIterator[bytes]:
        yield content
        await both.wait()

    async with asyncio.timeout(60):
        ends = await asyncio.gather(
            manager.fetch("a", post(meeting(LARGE))),
            manager.fetch("a", post(meeting(LARGE[::-1]))),
            return_exceptions=True,
        )

    assert sorted(type(end).__name__ for end in ends) == [
        "BackgroundFetchRegistration",
        "DuplicateFetch",
    ]
    [blob] = files(settings)
    registration = await manager.get("a")
    assert registration is not None
    [record] = await registration.match_all()
    assert await read(record.request) == blob.read_bytes()


async def test_a_fetch_that_is_cancelled_while_it_reads_leaves_nothing(
    manager: BackgroundFetchManager, settings: Settings
) -> None:
    reading = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield LARGE
            if len(files(settings)) == 2:
                reading.set()
            await asyncio.sleep(0)

    fetching = asyncio.create_task(
        manager.fetch("a", [post(LARGE), post(endless(), "/2")])
    )
    async with asyncio.timeout(60):
        await reading.wait()
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching

    assert files(settings) == []


async def test_a_body_stays_where_the_registration_may_have_succeeded(
    manager: BackgroundFetchManager,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Guarantee 1: a lost answer is no refusal."""
    run = manager.connection.run

    async def deaf(name: str, *arguments: object) -> None:
        await run(name, *arguments)  # type: ignore[arg-type]
        raise Unreachable("the answer was lost")

    monkeypatch.setattr(manager.connection, "run", deaf)
    with pytest.raises(Unreachable):
        await manager.fetch("a", post(LARGE))

    monkeypatch.undo()
    registration = await manager.get("a")
    assert registration is not None
    [record] = await registration.match_all()
    assert await read(record.request) == LARGE


async def test_a_full_store_is_a_quota(
    manager: BackgroundFetchManager,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """BF-FETCH-16: usage is what it was before."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwritev", full)
    with pytest.raises(QuotaExceeded, match="ENOSPC"):
        await manager.fetch("a", [post(LARGE), post(b"small")])

    assert files(settings) == []
    assert await manager.get_ids() == []


@pytest.mark.parametrize("kept", [b"", LARGE])
async def test_bodies_over_what_the_scope_allows_are_a_quota(
    manager: BackgroundFetchManager, settings: Settings, kept: bytes
) -> None:
    """BF-FETCH-16: a stream is read no further than that; usage is as before."""
    policy = ScopePolicy.checked(max_bytes=2 * MIB)
    await write_policy(manager.connection, SCOPE, policy)
    given = 0

    def endless() -> Iterator[bytes]:
        nonlocal given
        while True:
            given += MIB
            yield bytes(MIB)

    with pytest.raises(QuotaExceeded, match=f"allows {2 * MIB}"):
        await manager.fetch("a", [post(kept), post(endless(), "/2")])

    assert given <= 4 * MIB
    assert files(settings) == []
    assert await manager.get_ids() == []
    await manager.fetch("a", post(iter([bytes(2 * MIB)])))


async def test_small_bodies_count_towards_what_the_scope_allows(
    manager: BackgroundFetchManager,
) -> None:
    """BF-FETCH-16."""
    policy = ScopePolicy.checked(max_bytes=1024)
    await write_policy(manager.connection, SCOPE, policy)

    with pytest.raises(QuotaExceeded, match="bodies have at least 2048 bytes"):
        await manager.fetch("a", [post(bytes(1024)), post(bytes(1024), "/2")])

    assert await manager.connection.ask("KEYS", f"bgfetch:{SCOPE}:*") == []
    await manager.fetch("a", post(bytes(1024)))


async def test_bodies_go_with_the_records_of_an_aborted_fetch(
    manager: BackgroundFetchManager, settings: Settings, clock: Clock
) -> None:
    """R16; guarantee 6: until then they can be read."""
    registration = await manager.fetch("a", [post(LARGE), post(b"small")])
    keys = FetchKeys(SCOPE, registration.uid)
    await registration.abort()
    [record, _] = await registration.match_all()
    assert await read(record.request) == LARGE

    store = DirectoryStore.open(settings.store_directory, settings.durability)
    queue = JobQueue(manager.connection.url)
    agenda = Agenda(manager.connection, settings)
    reclaimer = Reclaimer(agenda, queue, store, settings)
    for _ in range(3):  # it is released, then purged, then forgotten
        await clock.age_settlement(keys, settings.retention)
        await reclaimer.look(keys)
    await queue.aclose()

    assert files(settings) == []
    assert await manager.connection.ask("KEYS", f"{keys.fetch}*") == []
    with pytest.raises(InvalidState):
        await read(record.request)


async def test_a_fetch_whose_bodies_no_worker_can_reach_is_forgotten_in_the_end(
    manager: BackgroundFetchManager, settings: Settings, tmp_path: Path, clock: Clock
) -> None:
    """R16, R25: a day after the retention; the bytes are a sweep's then."""
    registration = await manager.fetch("a", post(LARGE))
    keys = FetchKeys(SCOPE, registration.uid)
    await registration.abort()
    queue = JobQueue(manager.connection.url)
    agenda = Agenda(manager.connection, settings)
    other = DirectoryStore.open(tmp_path / "other", settings.durability)
    reclaimer = Reclaimer(agenda, queue, other, settings)

    kept = []
    for age in (settings.retention, settings.release_grace, timedelta(days=1)):
        await clock.age_settlement(keys, age)
        await reclaimer.look(keys)
        kept.append(await manager.connection.ask("EXISTS", keys.bodies))
    await reclaimer.look(keys)
    await queue.aclose()

    assert kept == [1, 1, 0]  # released; nobody has the bytes; forgotten
    assert await manager.connection.ask("KEYS", f"{keys.fetch}*") == []
    assert len(files(settings)) == 1


async def test_a_body_on_another_store_is_told_so(
    manager: BackgroundFetchManager, settings: Settings, tmp_path: Path
) -> None:
    """R4."""
    await manager.fetch("a", post(LARGE))
    elsewhere = settings.model_copy(update={"store": tmp_path / "other"})
    async with connect(scope=SCOPE, settings=elsewhere) as other:
        registration = await other.get("a")
        assert registration is not None
        [record] = await registration.match_all()
        with pytest.raises(StorageError, match="BGFETCH_STORE"):
            await read(record.request)


async def test_a_long_stream_does_not_fill_the_memory(
    manager: BackgroundFetchManager, settings: Settings
) -> None:
    """Faults 14: 64 MiB, never more than a few blocks at once."""
    slice_ = bytes(64 * 1024)

    def long() -> Iterator[bytes]:
        for _ in range(1024):
            yield bytes(slice_)

    async def long_async() -> AsyncIterator[bytes]:
        for _ in range(1024):
            yield bytes(slice_)

    tracemalloc.start()
    try:
        registration = await manager.fetch("a", [post(long()), post(long_async())])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert registration.upload_total == 128 * MIB
    assert sum(path.stat().st_size for path in files(settings)) == 128 * MIB
    assert peak < 16 * MIB
