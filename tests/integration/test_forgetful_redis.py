"""A Redis that forgets its newest writes, a key, or everything."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from broker.keys import FetchKeys, ScopeKeys
from broker.manager import BackgroundFetchManager, connect
from broker.registration import BackgroundFetchRegistration
from broker.settings import Settings
from broker.stream import Subscription
from broker.subscribers import Subscribers
from schemas.errors import InvalidState, Unreachable
from tests.integration.clock import SCOPE
from tests.integration.delivering import hand_over
from tests.integration.outcomes import running
from tests.torture.database import Database
from workers.events import BackgroundFetchEvent
from workers.service_worker import ServiceWorker

URL = "https://cdn.example/1"
PATIENCE = 60.0
MUCH = 10**9
"""Bytes of the append-only file: more than there are, down to what is kept."""


@pytest.fixture
def database() -> Iterator[Database]:
    """A Redis that can be killed, and forget."""
    with tempfile.TemporaryDirectory(prefix="bg", dir="/tmp") as directory:
        database = Database(Path(directory, "redis"))
        yield database
        database.close()


@pytest.fixture
async def producer(
    settings: Settings, database: Database
) -> AsyncIterator[BackgroundFetchManager]:
    """A manager on that Redis."""
    own = settings.model_copy(update={"redis_url": database.url})
    async with connect(scope=SCOPE, settings=own) as manager:
        yield manager


async def test_a_restart_changes_nothing_of_how_far_behind_a_subscriber_is(
    producer: BackgroundFetchManager, database: Database, settings: Settings
) -> None:
    """The append-only file does not keep how many entries a group has read."""
    connection = producer.connection
    subscribers = Subscribers(connection, settings, SCOPE)
    inbox = Subscription(connection, settings, SCOPE, "one")
    await inbox.join()
    fetch = await producer.fetch("x", URL)
    for _ in range(7):
        await fetch.click()
    read = await hand_over(inbox, 5)
    await inbox.aclose()
    [before] = await subscribers.look()

    await database.crash()
    await answering(producer)

    [after] = await subscribers.look()
    [group] = await connection.redis.xinfo_groups(ScopeKeys(SCOPE).events)
    assert len(read) == 5
    assert group["lag"] != 2  # why it is not asked
    assert (before.lag, before.pending) == (after.lag, after.pending) == (2, 5)


async def answering(manager: BackgroundFetchManager) -> None:
    """Wait until Redis answers this process again."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await manager.connection.ping()
            except Unreachable:
                await asyncio.sleep(0.05)
            else:
                return


async def test_a_registration_that_redis_has_lost_is_told_and_can_be_made_again(
    database: Database, producer: BackgroundFetchManager
) -> None:
    """Faults row 77, R25: its uid, which its producer made, is known to nobody."""
    kept = await producer.fetch("kept", URL)
    database.keep()
    lost = await producer.fetch("lost", URL)

    await database.crash(MUCH)
    await answering(producer)

    assert await producer.get_ids() == ["kept"]
    assert await producer.lookup(lost.uid) is None
    assert await producer.find("lost") is None
    assert not await lost.abort()
    for call in (lost.refresh, lost.click, lost.settled):
        with pytest.raises(InvalidState):
            await call()
    with pytest.raises(InvalidState):
        await all_progress(lost)
    again = await producer.fetch("lost", URL)
    assert again.uid != lost.uid
    assert await producer.get_ids() == ["kept", "lost"]
    assert await kept.abort()


async def all_progress(registration: BackgroundFetchRegistration) -> None:
    """Listen until there is no more to hear."""
    async with asyncio.timeout(PATIENCE):
        async for _ in registration.progress():
            pass


async def test_whoever_waits_for_a_registration_hears_that_redis_has_lost_it(
    database: Database, producer: BackgroundFetchManager
) -> None:
    """Faults row 77, R25: a missing hash is an error, not a wait without end."""
    database.keep()
    lost = await producer.fetch("lost", URL)
    waiting = asyncio.create_task(lost.settled())
    await lost.refresh()

    await database.crash(MUCH)

    async with asyncio.timeout(PATIENCE):
        with pytest.raises(InvalidState):
            await waiting


async def test_what_a_crash_leaves_is_whole(
    database: Database, producer: BackgroundFetchManager
) -> None:
    """Faults row 77, guarantee 1, R22: scripts are in the file whole or not at all."""
    async with asyncio.timeout(PATIENCE):
        for round in range(4):
            database.keep()
            for number in range(10):
                made = await producer.fetch(f"{round}-{number}", URL)
                await made.click()
                await made.abort()
            await database.crash(700 + 1900 * round)
            await answering(producer)
            for state in await producer.history():
                registration = producer.registration(state)
                await registration.refresh()
                ended = bool(registration.result)
                assert (state.id in await producer.get_ids()) == (not ended)
                if not ended:
                    assert await registration.abort()


async def test_everybody_goes_on_after_flushall(
    manager: BackgroundFetchManager, settings: Settings
) -> None:
    """Faults row 78: what was at work ends by itself, what comes later is handled."""
    settings = settings.model_copy(update={"lease": timedelta(seconds=1)})
    began, proceed = asyncio.Event(), asyncio.Event()
    handled: list[str] = []

    async def handle(event: BackgroundFetchEvent) -> None:
        began.set()
        await proceed.wait()
        handled.append(event.registration.id)

    sw = ServiceWorker(SCOPE)
    sw.onbackgroundfetchabort = handle
    async with running(sw, settings) as outcomes, asyncio.timeout(PATIENCE):
        before = await manager.fetch("before", URL)
        await before.abort()
        await began.wait()

        await manager.connection.ask("FLUSHALL")
        proceed.set()
        await outcomes.until("lost")
        with pytest.raises(InvalidState):
            await before.refresh()
        with pytest.raises(InvalidState):
            await before.click()
        await handled_again(manager, handled)


async def handled_again(manager: BackgroundFetchManager, handled: list[str]) -> None:
    """Publish until one is handled: the group is not there before it is missed."""
    number = 0
    while "after" not in {id.partition("-")[0] for id in handled}:
        await (await manager.fetch(f"after-{number}", URL)).abort()
        await asyncio.sleep(0.1)
        number += 1


async def test_a_key_that_was_evicted_makes_no_other_errors_than_ours(
    manager: BackgroundFetchManager, settings: Settings
) -> None:
    """Faults row 78: each key of a fetch is gone once; its subscriber goes on."""
    handled: asyncio.Queue[str] = asyncio.Queue()
    sw = ServiceWorker(SCOPE)
    sw.onbackgroundfetchabort = lambda event: handled.put_nowait(event.registration.id)
    async with running(sw, settings), asyncio.timeout(PATIENCE):
        for number in range(len(FetchKeys(SCOPE, "").all())):
            victim = await manager.fetch(f"victim-{number}", URL)
            await victim.click()
            key = FetchKeys(SCOPE, victim.uid).all()[number]
            await manager.connection.ask("DEL", key)
            for call in (
                victim.click,
                lambda: victim.match(URL),  # noqa: B023 - called here and now
                victim.abort,
                victim.refresh,
                lambda: victim.settled(timedelta(0)),  # noqa: B023
                manager.history,
                manager.get_ids,
            ):
                with suppress(InvalidState, TimeoutError):
                    await call()
        await (await manager.fetch("last", URL)).abort()
        while await handled.get() != "last":
            pass
