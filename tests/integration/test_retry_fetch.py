"""``registration.retry()`` and ``forget()``: what to do with ended fetches."""

from __future__ import annotations

import asyncio
import hashlib
import os
from datetime import timedelta

import pytest

from broker.agenda import Agenda, Verdict
from broker.dead_letters import DeadLetters
from broker.keys import FetchKeys, ScopeKeys
from broker.listing import Listing
from broker.manager import BackgroundFetchManager
from broker.queue import JobQueue
from broker.registration import BackgroundFetchRegistration
from broker.settings import Settings
from schemas.errors import DuplicateFetch, InvalidName, InvalidState
from schemas.queries import ListedState
from schemas.requests import Request
from tests.integration.clock import SCOPE, Clock
from tests.integration.delivering import Process, begin, read
from tests.integration.working import perform
from workers.demo.origin import Origin
from workers.engine import Engine
from workers.reclaim import Reclaimer

URL = "https://cdn.example/1"
GRACE = timedelta(hours=1)


def keys_of(registration: BackgroundFetchRegistration) -> FetchKeys:
    """The keys of a fetch."""
    return FetchKeys(registration.scope, registration.uid)


async def release(
    manager: BackgroundFetchManager, clock: Clock, keys: FetchKeys
) -> None:
    """Let the records of an ended fetch go, as they do when all have settled."""
    agenda = Agenda(manager.connection, manager.settings)
    await manager.connection.ask("HSET", keys.fetch, "held", 1)
    while (look := await agenda.look(keys)).verdict is not Verdict.PURGE:
        assert look.verdict in (Verdict.RELEASED, Verdict.WAIT)
        await clock.age_settlement(keys, GRACE)
    await agenda.purged(keys)


async def test_a_retry_registers_the_same_fetch_once_more(
    manager: BackgroundFetchManager, origin: Origin, engine: Engine
) -> None:
    requests = [
        Request(origin.url("/a"), headers={"X-Key": "1"}),
        Request(origin.url("/b"), method="POST", body=b"small"),
    ]
    first = await manager.fetch(
        "x", requests, title="T", download_total=1000, hold=GRACE, priority="high"
    )
    await perform(engine, first)
    for path in ("/a", "/b"):
        origin.add(path, b"bytes")

    second = await first.retry()

    assert manager.registration(second.state) is second
    assert (await manager.get("x")) is second
    assert second.uid != first.uid
    assert (second.title, second.download_total, second.result) == ("T", 1000, "")
    fields = await manager.connection.ask("HGETALL", keys_of(second).fetch)
    assert (fields[b"priority"], fields[b"hold"]) == (b"high", b"3600000")
    assert fields[b"retryOf"] == first.uid.encode()
    await perform(engine, second)
    assert second.result == "success"
    assert [seen.headers.get("x-key") for seen in origin.log[-2:]].count("1") == 1
    assert {seen.body for seen in origin.log[-2:]} == {b"", b"small"}


async def test_a_retry_is_possible_after_the_records_are_released(
    manager: BackgroundFetchManager, clock: Clock
) -> None:
    """Its subscribers are quick, people are not; a success keeps nothing."""
    first = await manager.fetch("x", URL)
    await first.abort()
    await release(manager, clock, keys_of(first))

    second = await first.retry()

    assert [record.request.url for record in await second.match_all()] == [URL]


async def test_a_retry_copies_large_bodies_while_records_are_held(
    manager: BackgroundFetchManager, origin: Origin, engine: Engine, clock: Clock
) -> None:
    """R16: each blob is that of one fetch."""
    body = os.urandom(300_000)
    first = await manager.fetch(
        "x", Request(origin.url("/a"), method="POST", body=body)
    )
    await first.abort()

    second = await first.retry()
    await release(manager, clock, keys_of(first))
    mine = await manager.connection.ask("HVALS", keys_of(second).bodies)
    origin.add("/a", b"bytes")
    await perform(engine, second)

    assert len(mine) == 1
    assert hashlib.sha256(origin.log[-1].body).digest() == hashlib.sha256(body).digest()
    with pytest.raises(InvalidState, match="body of request 0 of 'x' is released"):
        await first.retry()


async def test_a_repeated_retry_has_the_same_answer(
    manager: BackgroundFetchManager,
) -> None:
    """R23, also where the first one has ended by now."""
    first = await manager.fetch("x", URL)
    await first.abort()

    second = await first.retry(token="a" * 32)
    again = await first.retry(token="a" * 32)
    await second.abort()
    late = await first.retry(token="a" * 32)

    assert second is again is late
    assert second.uid == "a" * 32
    with pytest.raises(InvalidName, match="32 digits"):
        await first.retry(token="short")


async def test_a_retry_is_refused_where_it_makes_no_sense(
    manager: BackgroundFetchManager, origin: Origin, engine: Engine
) -> None:
    origin.add("/a", b"bytes")
    active = await manager.fetch("active", URL)
    done = await perform(engine, await manager.fetch("done", origin.url("/a")))
    aborted = await manager.fetch("again", URL)
    await aborted.abort()
    await manager.fetch("again", URL)

    with pytest.raises(InvalidState, match="'active' is active"):
        await active.retry()
    with pytest.raises(InvalidState, match="'done' succeeded"):
        await done.retry()
    with pytest.raises(DuplicateFetch, match="active fetch 'again'"):
        await aborted.retry()


async def test_a_forgotten_fetch_is_found_nowhere_and_its_bytes_go(
    manager: BackgroundFetchManager,
    origin: Origin,
    engine: Engine,
    settings: Settings,
    clock: Clock,
) -> None:
    """Also with a hold."""
    origin.add("/a", b"bytes")
    registration = await manager.fetch("x", origin.url("/a"), hold=GRACE)
    await perform(engine, registration)
    keys, listing = keys_of(registration), Listing(manager.connection, settings)

    await registration.forget()
    await registration.forget()

    assert await manager.find("x") is None
    assert await manager.lookup(registration.uid) is None
    assert await listing.counts() == dict.fromkeys(ListedState, 0)
    assert (await listing.page()).items == ()
    assert await manager.history() == []
    with pytest.raises(InvalidState, match="no longer retained"):
        await registration.retry()
    queue, store = JobQueue(manager.connection.url), await manager.reader.open()
    reclaimer = Reclaimer(Agenda(manager.connection, settings), queue, store, settings)
    await clock.age_settlement(keys, GRACE)
    await manager.connection.ask("ZADD", "bgfetch:cleared", 0, keys.member)
    async with asyncio.timeout(30):
        while await manager.connection.ask("EXISTS", *keys.all()):
            await reclaimer.make_pass()
    await queue.aclose()
    assert settings.store is not None
    assert not any(os.scandir(os.path.join(settings.store, "blobs")))


async def test_what_subscribers_have_not_settled_is_forgotten_only_by_force(
    manager: BackgroundFetchManager, process: Process, settings: Settings
) -> None:
    """A handler that runs meanwhile is told that it came too late (R10)."""
    subscription = await process("a")
    await process("b")
    registration = await manager.fetch("x", URL)
    with pytest.raises(InvalidState, match="abort it first"):
        await registration.forget(force=True)
    await registration.abort()
    [delivery] = await read(subscription)
    begun = await begin(subscription, delivery)

    with pytest.raises(InvalidState, match="not settled by every subscriber"):
        await registration.forget()
    await registration.forget(force=True)
    agenda = Agenda(manager.connection, settings).of_removed()
    keys = keys_of(registration)
    long_ago = await manager.connection.now() - 3_600_000
    await manager.connection.ask("HSET", keys.fetch, "releasedAt", long_ago)
    look = await agenda.look(keys)
    expired = await agenda.expire(look.overdue)

    assert (look.verdict, expired) == (Verdict.EXPIRE, 2)
    assert not await subscription.ack(begun)
    letters = await DeadLetters(manager.connection, settings, SCOPE).find()
    assert [letter.reason for letter in letters] == [
        "nobody had settled it when the fetch was forgotten"
    ] * 2
    assert (await agenda.look(keys)).verdict is Verdict.PURGE


async def test_a_delivery_of_a_forgotten_fetch_does_not_begin(
    manager: BackgroundFetchManager, process: Process
) -> None:
    subscription = await process()
    registration = await manager.fetch("x", URL)
    await registration.abort()
    [delivery] = await read(subscription)

    await registration.forget(force=True)
    begun = await subscription.begin(delivery)

    assert begun is not None
    assert type(begun).__name__ == "Refused"
    assert (
        await manager.connection.ask("ZCARD", ScopeKeys(SCOPE).subscriber("a").leases)
        == 0
    )
