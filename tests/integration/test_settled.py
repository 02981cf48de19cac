"""``registration.settled()``: the publisher learns what became of its event (R12)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest

from broker import blocking
from broker.agenda import Agenda
from broker.dead_letters import DeadLetters
from broker.deliveries import Begun, Delivery
from broker.keys import FetchKeys
from broker.manager import BackgroundFetchManager, connect
from broker.registration import BackgroundFetchRegistration
from broker.settings import Settings
from broker.stream import Subscription
from schemas.errors import InvalidState
from schemas.events import EventMessage
from tests.integration.clock import SCOPE, Clock
from tests.integration.delivering import hand_over

NOW = timedelta(milliseconds=1)
URL = "https://cdn.example/1"
Process = Callable[..., Awaitable[Subscription]]


@pytest.fixture
async def process(
    manager: BackgroundFetchManager, settings: Settings
) -> AsyncIterator[Process]:
    """Start one more process of a subscriber, for which one failure is enough."""
    strict = settings.model_copy(update={"max_deliveries": 1})
    async with AsyncExitStack() as stack:

        async def start(name: str = "a") -> Subscription:
            subscription = Subscription(manager.connection, strict, SCOPE, name)
            await subscription.join()
            stack.push_async_callback(subscription.aclose)
            return subscription

        yield start


async def begin_next(process: Subscription) -> Begun:
    [(entry, message), *_] = await hand_over(process, 1)
    delivery = Delivery(entry, EventMessage.decode(message), process.subscriber)
    begun = await process.begin(delivery)
    assert isinstance(begun, Begun)
    return begun


async def is_waiting(settled: asyncio.Task[object]) -> bool:
    """Whether it still waits, after whatever was published has arrived."""
    done, _ = await asyncio.wait([settled], timeout=0.2)
    return not done


async def test_settled_tells_the_outcome_at_every_subscriber(
    manager: BackgroundFetchManager, process: Process
) -> None:
    """A dead letter is no outcome; it is waited for until it is purged (R21)."""
    good, bad = await process("good"), await process("bad")
    registration = await manager.fetch("x", URL)
    task = asyncio.create_task(registration.settled(timedelta(seconds=20)))
    while_active = await is_waiting(task)
    await registration.abort()

    await good.ack(await begin_next(good))
    failed = await begin_next(bad)
    await bad.nack(failed, failed=True, delay=NOW, reason="ValueError: no")
    while_dead = await is_waiting(task)
    letters = DeadLetters(manager.connection, manager.settings, SCOPE)
    [letter] = await letters.find()
    await letters.purge(letter)

    assert while_active
    assert while_dead
    assert await task == {"good": "acked", "bad": "purged"}
    assert await registration.settled(timedelta(0)) == await task


async def test_the_news_reaches_a_publisher_at_once_though_a_hold_keeps_the_records(
    manager: BackgroundFetchManager, settings: Settings, process: Process
) -> None:
    sub = await process()
    async with connect(scope=SCOPE, settings=settings) as elsewhere:
        registration = await elsewhere.fetch("x", URL, hold=timedelta(hours=1))
        await registration.abort()
        task = asyncio.create_task(registration.settled())
        assert await is_waiting(task)

        await sub.ack(await begin_next(sub))

        async with asyncio.timeout(2.5):  # sooner than it would read again by itself
            assert await task == {"a": "acked"}
        assert registration.records_available


async def test_an_event_owed_to_nobody_waits_for_the_first_subscriber(
    manager: BackgroundFetchManager, process: Process
) -> None:
    """R12: an empty set is open, not settled."""
    registration = await manager.fetch("x", URL)
    await registration.abort()
    with pytest.raises(TimeoutError):
        await registration.settled(timedelta(milliseconds=100))

    sub = await process()
    await sub.ack(await begin_next(sub))

    assert await registration.settled() == {"a": "acked"}


async def retire(
    registration: BackgroundFetchRegistration,
    manager: BackgroundFetchManager,
    clock: Clock,
) -> None:
    """Let the retention end, and look until nothing more is to be expired."""
    keys = FetchKeys(SCOPE, registration.uid)
    await clock.age_settlement(keys, manager.settings.retention)
    agenda = Agenda(manager.connection, manager.settings)
    while (look := await agenda.look(keys)).overdue:
        await agenda.expire(look.overdue)


async def test_at_retention_an_event_that_nobody_wanted_is_reported_expired(
    manager: BackgroundFetchManager, clock: Clock
) -> None:
    """R12: {} would read as if all had acknowledged it."""
    registration = await manager.fetch("x", URL)
    await registration.abort()
    task = asyncio.create_task(registration.settled())
    assert await is_waiting(task)

    await retire(registration, manager, clock)

    async with asyncio.timeout(10):
        assert await task == {"": "expired"}


async def test_a_fetch_that_only_its_hold_kept_is_settled_by_the_end_of_that(
    manager: BackgroundFetchManager, settings: Settings
) -> None:
    """R12: a hold is a member of the set, and here the only one."""
    registration = await manager.fetch("x", URL, hold=timedelta(hours=1))
    await registration.abort()
    task = asyncio.create_task(registration.settled())
    assert await is_waiting(task)

    await registration.release()
    agenda = Agenda(manager.connection, settings)
    await agenda.look(FetchKeys(SCOPE, registration.uid))

    async with asyncio.timeout(10):
        assert await task == {}


async def test_at_retention_a_subscriber_that_was_never_there_is_reported_expired(
    manager: BackgroundFetchManager, clock: Clock, process: Process
) -> None:
    """R9, R21, faults 89."""
    await process("idle")
    done = await process("done")
    registration = await manager.fetch("x", URL)
    await registration.abort()
    await done.ack(await begin_next(done))
    task = asyncio.create_task(registration.settled())
    assert await is_waiting(task)

    await retire(registration, manager, clock)

    async with asyncio.timeout(10):
        assert await task == {"idle": "expired", "done": "acked"}


async def test_a_fetch_that_is_no_longer_retained_cannot_be_waited_for(
    manager: BackgroundFetchManager,
) -> None:
    """R25: a missing hash is an error."""
    registration = await manager.fetch("x", URL)
    await manager.connection.ask("DEL", *FetchKeys(SCOPE, registration.uid).all())

    with pytest.raises(InvalidState, match="no longer retained"):
        await registration.settled()


async def test_a_click_tells_what_became_of_it_at_every_subscriber(
    manager: BackgroundFetchManager, process: Process
) -> None:
    """R11: while the fetch goes on, and after its records are released."""
    good, bad = await process("good"), await process("bad")
    registration = await manager.fetch("x", URL)
    letters = DeadLetters(manager.connection, manager.settings, SCOPE)

    first = await registration.click()
    task = asyncio.create_task(first.settled())
    await good.ack(await begin_next(good))
    failed = await begin_next(bad)
    await bad.nack(failed, failed=True, delay=NOW, reason="ValueError: no")
    while_dead = await is_waiting(task)
    await letters.purge((await letters.find())[0])
    async with asyncio.timeout(2.5):  # sooner than it would read again by itself
        told = await task
    await registration.abort()
    for each in (good, bad):
        await each.ack(await begin_next(each))
    second = await registration.click()
    with pytest.raises(TimeoutError):
        await second.settled(timedelta(milliseconds=100))

    assert (first.event, second.event) == (
        "backgroundfetchclick.1",
        "backgroundfetchclick.2",
    )
    assert while_dead
    assert told == {"good": "acked", "bad": "purged"}
    assert not registration.records_available
    assert await registration.settled() == {"good": "acked", "bad": "acked"}


async def test_settled_hears_of_the_outcome_without_pub_sub(
    manager: BackgroundFetchManager,
    process: Process,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """R25: messages are hints; what was missed is read again."""

    async def deaf() -> None:
        """Never subscribe."""

    monkeypatch.setattr(manager, "watching", deaf)
    monkeypatch.setattr("broker.live_state.REREAD_SECONDS", 0.05)
    sub = await process()
    registration = await manager.fetch("x", URL)
    task = asyncio.create_task(registration.settled())

    await registration.abort()
    await sub.ack(await begin_next(sub))

    async with asyncio.timeout(10):
        assert await task == {"a": "acked"}


def test_code_without_an_event_loop_can_wait_too(settings: Settings) -> None:
    with blocking.connect(scope=SCOPE, settings=settings) as background_fetch:
        registration = background_fetch.fetch("x", URL)

        with pytest.raises(TimeoutError):
            registration.settled(timeout=timedelta(milliseconds=50))
