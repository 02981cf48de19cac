"""Subscribers: how each one is getting on, and what happens when one leaves (R21)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from broker.agenda import Agenda
from broker.dead_letters import DeadLetters
from broker.deliveries import Begun, Delivery, Refused
from broker.departures import departing
from broker.keys import FetchKeys, ScopeKeys
from broker.manager import BackgroundFetchManager
from broker.settings import Settings
from broker.stream import Subscription
from broker.subscribers import Subscribers
from schemas.errors import InvalidState
from schemas.events import EventMessage
from tests.integration.clock import SCOPE, Clock
from tests.integration.delivering import Process, begin, read

HOUR = timedelta(hours=1)
URL = "https://cdn.example/1"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Two failures are enough for a dead letter."""
    return settings.model_copy(update={"max_deliveries": 2})


async def fail(process: Subscription, delivery: Delivery) -> None:
    begun = await begin(process, delivery)
    await process.nack(begun, failed=True, delay=HOUR, reason="ValueError: no")


async def test_a_scope_without_subscribers_has_none(subscribers: Subscribers) -> None:
    assert await subscribers.look() == []


async def test_a_look_counts_what_lags_is_pending_waits_or_is_dead(
    manager: BackgroundFetchManager,
    process: Process,
    subscribers: Subscribers,
    clock: Clock,
    settings: Settings,
) -> None:
    sub, _, idle = await process("a"), await process("a"), await process("b")
    await idle.bury(idle.consumer, leaving=True)
    for id in ("dead", "waiting", "held", "unread"):
        await (await manager.fetch(id, URL)).abort()
    dead, waiting, held = await read(sub, 3)
    await fail(sub, dead)
    await clock.age_deliveries("a", HOUR)
    [(entry, message)] = await sub.collect(1)
    await fail(sub, Delivery(entry, EventMessage.decode(message), "a"))
    await fail(sub, waiting)
    await begin(sub, held)
    again, other = await process("a"), await process("a")

    first, second = await subscribers.look()

    told = (first.name, first.processes, first.lag, first.pending)
    assert told == ("a", 2, 1, 1)
    assert (first.waiting, first.dead) == (1, 1)
    assert {again.consumer, other.consumer}
    assert (second.name, second.processes, second.lag) == ("b", 0, 4)
    assert (second.pending, second.waiting, second.dead) == (0, 0, 0)
    assert first.oldest is not None
    assert second.oldest is not None
    assert timedelta(0) <= first.oldest <= second.oldest < timedelta(minutes=1)


async def test_the_lag_is_counted_where_redis_does_not_know_it(
    manager: BackgroundFetchManager, process: Process, subscribers: Subscribers
) -> None:
    """Entries are deleted one by one, and Redis's own count is void after that."""
    await process()
    for id in ("x", "y", "z"):
        await (await manager.fetch(id, URL)).abort()
    redis, events = manager.connection.redis, ScopeKeys(SCOPE).events
    rows = await manager.connection.ask("XRANGE", events, "-", "+")
    await manager.connection.ask("XDEL", events, rows[1][0])

    [look] = await subscribers.look()

    assert (await redis.xinfo_groups(events))[0]["lag"] is None
    assert look.lag == 2


async def test_the_lag_is_counted_where_events_have_no_number(
    manager: BackgroundFetchManager, process: Process, subscribers: Subscribers
) -> None:
    """What an earlier release, or somebody else, has put into the stream."""
    await process()
    await (await manager.fetch("x", URL)).abort()
    entry = ("delivery", "?", "message", "junk")
    for _ in range(3):
        await manager.connection.ask("XADD", ScopeKeys(SCOPE).events, "*", *entry)

    [look] = await subscribers.look()

    assert look.lag == 4


async def test_an_acknowledged_event_is_neither_lagging_nor_old(
    manager: BackgroundFetchManager, process: Process, subscribers: Subscribers
) -> None:
    sub = await process()
    await (await manager.fetch("x", URL)).abort()
    await sub.ack(await begin(sub, (await read(sub))[0]))

    [look] = await subscribers.look()

    assert (look.lag, look.pending, look.waiting, look.dead) == (0, 0, 0, 0)
    assert look.oldest is None


async def test_who_leaves_is_owed_nothing_and_holds_no_records(
    manager: BackgroundFetchManager,
    process: Process,
    subscribers: Subscribers,
    clock: Clock,
) -> None:
    """R11, R21: unread, waiting and dead deliveries alike are settled as removed."""
    leaver, stayer = await process("leaver"), await process("stayer")
    registrations = []
    for id in ("dead", "waiting", "unread"):
        registrations.append(await manager.fetch(id, URL))
        await registrations[-1].abort()
    dead, waiting = await read(leaver, 2)
    await fail(leaver, dead)
    await clock.age_deliveries("leaver", HOUR)
    [(entry, message)] = await leaver.collect(1)
    await fail(leaver, Delivery(entry, EventMessage.decode(message), "leaver"))
    await fail(leaver, waiting)
    for delivery in await read(stayer):
        await stayer.ack(await begin(stayer, delivery))
    await clock.age_deliveries("leaver", HOUR)

    removed = await subscribers.remove("leaver")
    again = await subscribers.remove("leaver")
    later = await manager.fetch("later", URL)
    await later.abort()
    [delivery] = await read(stayer)
    await stayer.ack(await begin(stayer, delivery))

    assert (removed, again) == (True, False)
    for registration in registrations:
        outcomes = await registration.settled(timedelta(seconds=5))
        assert outcomes == {"leaver": "removed", "stayer": "acked"}
        assert not registration.records_available
    assert await later.settled(timedelta(seconds=5)) == {"stayer": "acked"}
    assert await subscribers.names() == ["stayer"]
    assert await DeadLetters(manager.connection, manager.settings, SCOPE).find() == []
    assert await leaver.begin(waiting) is Refused.DONE
    assert await departing(manager.connection) == []


async def test_a_subscriber_whose_process_lives_is_not_removed(
    process: Process, subscribers: Subscribers
) -> None:
    await process("a")

    with pytest.raises(InvalidState, match="live processes"):
        await subscribers.remove("a")

    assert await subscribers.names() == ["a"]
    assert await subscribers.remove("unknown") is False


async def test_a_removal_that_was_interrupted_is_finished_by_a_reclaimer(
    manager: BackgroundFetchManager,
    process: Process,
    subscribers: Subscribers,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """R25: and until then the name cannot be taken again."""

    async def crash(*_: object) -> int:
        raise KeyboardInterrupt

    await process("a")
    registration = await manager.fetch("x", URL)
    await registration.abort()
    await clock.age_deliveries("a", HOUR)
    with monkeypatch.context() as patched:
        patched.setattr("broker.subscribers.settle_departed", crash)
        with pytest.raises(KeyboardInterrupt):
            await subscribers.remove("a")
    with pytest.raises(InvalidState, match="is being removed"):
        await process("a")

    await Agenda(manager.connection, manager.settings).settle_departures()

    assert await registration.settled() == {"a": "removed"}
    fresh = await process("a")
    await (await manager.fetch("y", URL)).abort()
    [former, own] = await read(fresh)
    assert await fresh.begin(former) is Refused.DONE
    assert isinstance(await fresh.begin(own), Begun)


async def test_a_process_that_outlived_the_removal_does_not_rejoin(
    manager: BackgroundFetchManager,
    process: Process,
    subscribers: Subscribers,
    clock: Clock,
) -> None:
    """A stopped process may wake up later than its lease."""
    zombie = await process("a")
    registration = await manager.fetch("x", URL)
    await registration.abort()
    begun = await begin(zombie, (await read(zombie))[0])
    await clock.age_deliveries("a", HOUR)
    await subscribers.remove("a")

    late = await zombie.ack(begun)
    with pytest.raises(InvalidState, match="was removed"):
        await zombie.join(again=True)

    assert late is False
    assert await registration.settled() == {"a": "removed"}


async def test_the_last_subscriber_that_leaves_leaves_the_set_open(
    manager: BackgroundFetchManager,
    process: Process,
    subscribers: Subscribers,
    clock: Clock,
) -> None:
    """R12: later events wait for the next one, which may have the same name."""
    await process("a")
    await clock.age_deliveries("a", HOUR)
    await subscribers.remove("a")
    registration = await manager.fetch("x", URL)
    await registration.abort()

    again = await process("a")
    [delivery] = await read(again)
    await again.ack(await begin(again, delivery))

    assert await registration.settled() == {"a": "acked"}


async def test_a_removal_leaves_an_active_fetch_as_it_is(
    manager: BackgroundFetchManager,
    process: Process,
    subscribers: Subscribers,
    clock: Clock,
) -> None:
    await process("a")
    registration = await manager.fetch("x", URL)
    await registration.click()
    await clock.age_deliveries("a", HOUR)

    await subscribers.remove("a")

    events = await manager.connection.ask(
        "HGETALL", FetchKeys(SCOPE, registration.uid).events
    )
    assert events[b"backgroundfetchclick.1|a"].startswith(b"removed")
    assert [await manager.get("x")] == [registration]
