"""Subscribers that nobody runs: they leave the set by themselves (R21)."""

from __future__ import annotations

from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from broker.agenda import Agenda
from broker.dead_letters import DeadLetters
from broker.deliveries import Begun, Refused
from broker.keys import PRESENCE, RECLAIM, FetchKeys, ScopeKeys
from broker.manager import BackgroundFetchManager
from broker.settings import Settings
from broker.stream import Subscription
from broker.subscribers import Subscribers
from schemas.filters import EventFilter
from tests.integration.clock import SCOPE, Clock
from tests.integration.delivering import Process, read
from workers.reclaim import Reclaimer

SOON = timedelta(seconds=5)
URL = "https://cdn.example/1"


@pytest.fixture
def agenda(manager: BackgroundFetchManager) -> Agenda:
    """What a reclaimer does."""
    return Agenda(manager.connection, manager.settings)


@pytest.fixture
async def reclaimer(
    manager: BackgroundFetchManager, agenda: Agenda, settings: Settings
) -> Reclaimer:
    """A reclaimer whose grace is over (R15)."""
    await agenda.grace(settings.lease)
    await manager.connection.ask("HSET", RECLAIM, "grace_until", 0)
    return Reclaimer(agenda, manager.queue, None, settings)


async def ack_all(process: Subscription) -> list[str]:
    """Acknowledge what there is; return the ids."""
    found = []
    for delivery in await read(process):
        begun = await process.begin(delivery)
        if isinstance(begun, Begun):
            await process.ack(begun)
            found.append(delivery.message.registration.id)
    return found


@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_a_subscriber_that_nobody_runs_is_not_owed_what_comes_later(
    manager: BackgroundFetchManager,
    process: Process,
    subscribers: Subscribers,
    reclaimer: Reclaimer,
    clock: Clock,
    settings: Settings,
    how: str,
) -> None:
    """No process since its last, for a retention: a report, and the next version."""
    absent = await process("absent", takes=EventFilter.of(["abort", "fail"]))
    stays = await process("stays")
    before = await manager.fetch("before", URL)
    await before.abort()
    if how == "stopped":
        await absent.bury(absent.consumer, leaving=True)
    await clock.age_subscriber("absent", settings.retention + settings.lease)

    with capture_logs() as logs:
        await reclaimer.make_pass()
        await reclaimer.make_pass()
    after = await manager.fetch("after", URL)
    await after.abort()
    await ack_all(stays)
    await before.refresh()
    gone, stayed = await subscribers.look()

    [report] = [each for each in logs if each["event"] == "subscriber_expired"]
    assert (report["scope"], report["subscriber"]) == (SCOPE, "absent")
    assert await after.settled(SOON) == {"stays": "acked"}
    assert before.records_available
    assert (gone.name, gone.state, gone.lag) == ("absent", "expired", 2)
    assert (stayed.name, stayed.state) == ("stays", "active")
    assert await subscribers.names() == ["stays"]
    key = ScopeKeys(SCOPE).scope_hash
    kept = await manager.connection.ask("HMGET", key, "subscribers", "filters")
    assert kept == [b"1", None]


async def test_what_it_was_owed_expires_with_the_retention_of_the_fetch(
    manager: BackgroundFetchManager,
    process: Process,
    reclaimer: Reclaimer,
    clock: Clock,
    settings: Settings,
) -> None:
    """R9: the later of publication and last sight, and a retention; with a copy."""
    await process("a")
    registration = await manager.fetch("x", URL)
    await registration.abort()
    await clock.age_subscriber("a", settings.retention + settings.lease)
    await reclaimer.make_pass()
    await registration.refresh()
    meanwhile = registration.records_available
    await clock.age_settlement(FetchKeys(SCOPE, registration.uid), settings.retention)

    await reclaimer.make_pass()

    assert meanwhile
    assert await registration.settled(SOON) == {"a": "expired"}
    [copy] = await DeadLetters(manager.connection, settings, SCOPE).find()
    assert copy.state == "expired"


async def test_who_comes_back_in_time_finds_what_it_is_owed(
    manager: BackgroundFetchManager,
    process: Process,
    reclaimer: Reclaimer,
    clock: Clock,
    settings: Settings,
) -> None:
    """A process that slept for so long counts as come back, too."""
    sleeper = await process("a")
    owed, later, own = [await manager.fetch(id, URL) for id in ("x", "y", "z")]
    await owed.abort()
    await clock.age_subscriber("a", settings.retention + settings.lease)
    await reclaimer.make_pass()
    other = await process("b")
    await later.abort()

    await sleeper.join(again=True)
    await own.abort()
    got = await ack_all(sleeper)
    await ack_all(other)

    assert got == ["x", "z"]
    assert await owed.settled(SOON) == {"a": "acked"}
    assert await later.settled(SOON) == {"b": "acked"}
    assert await own.settled(SOON) == {"a": "acked", "b": "acked"}


async def test_it_is_forgotten_when_nothing_is_left_that_it_was_owed(
    manager: BackgroundFetchManager,
    process: Process,
    subscribers: Subscribers,
    reclaimer: Reclaimer,
    clock: Clock,
    settings: Settings,
) -> None:
    sub = await process("a")
    await (await manager.fetch("x", URL)).abort()
    [delivery] = await read(sub)
    for _ in range(2):
        await clock.age_subscriber("a", settings.retention + settings.lease)
        await reclaimer.make_pass()
    away = await subscribers.look()
    refused = await sub.begin(delivery)
    await manager.connection.ask("XTRIM", ScopeKeys(SCOPE).events, "MAXLEN", 0)
    await clock.age_subscriber("a", settings.retention)

    await reclaimer.make_pass()

    assert [look.state for look in away] == ["expired"]
    assert isinstance(refused, Begun)
    assert await subscribers.look() == []
    assert await manager.connection.ask("ZCARD", PRESENCE) == 0
    for key in ScopeKeys(SCOPE).subscriber("a").all():
        assert await manager.connection.ask("EXISTS", key) == 0


async def test_a_subscriber_that_is_there_is_looked_for_a_retention_later(
    manager: BackgroundFetchManager,
    process: Process,
    subscribers: Subscribers,
    reclaimer: Reclaimer,
    settings: Settings,
) -> None:
    await process("a")
    await manager.connection.ask("ZADD", PRESENCE, 0, f"{SCOPE}/a")

    await reclaimer.make_pass()

    [look] = await subscribers.look()
    assert look.state == "active"
    at = await manager.connection.ask("ZSCORE", PRESENCE, f"{SCOPE}/a")
    now = await manager.connection.now()
    assert float(at) > now + settings.retention.total_seconds() * 1000 - 60_000


async def test_a_clock_that_leapt_makes_nobody_absent(
    manager: BackgroundFetchManager,
    process: Process,
    subscribers: Subscribers,
    agenda: Agenda,
    clock: Clock,
    settings: Settings,
) -> None:
    """R15: within the grace, who lives has shown it."""
    await process("a")
    await clock.age_subscriber("a", settings.retention + settings.lease)
    await agenda.grace(settings.lease)

    left = await agenda.expire_subscribers()

    assert left == []
    assert await subscribers.names() == ["a"]


async def test_a_removed_subscriber_is_not_looked_for(
    manager: BackgroundFetchManager,
    process: Process,
    subscribers: Subscribers,
    agenda: Agenda,
    reclaimer: Reclaimer,
    clock: Clock,
    settings: Settings,
) -> None:
    """R21: one that had left by itself may still be removed, and its name be reused."""
    sub = await process("a")
    registration = await manager.fetch("x", URL)
    await registration.abort()
    [delivery] = await read(sub)
    await clock.age_subscriber("a", settings.retention + settings.lease)
    await reclaimer.make_pass()

    removed = await subscribers.remove("a")
    left = await agenda.expire_subscribers()
    fresh = await process("a")

    assert (removed, left) == (True, [])
    assert await registration.settled(SOON) == {"a": "removed"}
    assert await fresh.begin(delivery) is Refused.DONE
    assert [look.state for look in await subscribers.look()] == ["active"]
