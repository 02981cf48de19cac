"""Events for a later release: they wait, uncounted, for a process that knows them."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import ResponseError
from structlog.testing import capture_logs

from broker.agenda import Agenda
from broker.dead_letters import DeadLetters
from broker.deliveries import Begun, Delivery
from broker.keys import FetchKeys, ScopeKeys
from broker.manager import BackgroundFetchManager
from broker.settings import Settings
from broker.stream import Subscription
from schemas.errors import InvalidMessage
from schemas.events import EventMessage
from schemas.messages import VERSION
from tests.integration.clock import SCOPE, Clock
from tests.integration.delivering import hand_over
from tests.integration.outcomes import running
from workers.dispatch import NEWER_LEASES
from workers.service_worker import ServiceWorker

URL = "https://cdn.example/1"


async def handed_back(manager: BackgroundFetchManager) -> None:
    """Return once the event waits for a time to come."""
    ask, due = manager.connection.ask, ScopeKeys(SCOPE).subscriber("default").due
    async with asyncio.timeout(15):
        while True:
            now = await manager.connection.now()
            if await ask("ZCOUNT", due, now, "+inf"):
                return
            await asyncio.sleep(0.02)


@pytest.fixture
def older(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Be the release before this one, until that is undone."""
    monkeypatch.setattr("schemas.messages.VERSION", VERSION - 1)
    return monkeypatch


async def test_an_event_for_a_later_release_waits_uncounted_for_a_process_that_has_it(
    manager: BackgroundFetchManager,
    settings: Settings,
    clock: Clock,
    older: pytest.MonkeyPatch,
) -> None:
    """Design §5: handed back uncounted, with one warning; R20."""
    sw = ServiceWorker(SCOPE)
    sw.add_event_listener("backgroundfetchabort", lambda event: None)
    letters = DeadLetters(manager.connection, settings, SCOPE)
    with capture_logs() as logged:
        async with running(sw, settings):
            await (await manager.fetch("x", URL)).abort()
            await handed_back(manager)
            await clock.age_deliveries("default", NEWER_LEASES * settings.lease)
            await handed_back(manager)
    warnings = [row for row in logged if row["log_level"] == "warning"]
    dead = await letters.find()
    older.undo()

    async with running(sw, settings) as outcomes:
        await clock.age_deliveries("default", NEWER_LEASES * settings.lease)
        acked = await outcomes.until("acked")

    assert [row["event"] for row in warnings] == ["event_for_later_release"]
    assert dead == []
    assert acked == ("acked", "backgroundfetchabort", 1)


async def test_what_no_process_ever_knew_expires_with_the_retention(
    manager: BackgroundFetchManager,
    settings: Settings,
    clock: Clock,
    older: pytest.MonkeyPatch,
) -> None:
    """Design §5: quarantined only at retention. R9: it leaves a copy for people."""
    sw = ServiceWorker(SCOPE)
    registration = await manager.fetch("x", URL)
    async with running(sw, settings):
        await registration.abort()
        await handed_back(manager)
    older.undo()

    keys = FetchKeys(SCOPE, registration.uid)
    await clock.age_settlement(keys, settings.retention)
    agenda = Agenda(manager.connection, settings)
    await agenda.expire((await agenda.look(keys)).overdue)

    [letter] = await DeadLetters(manager.connection, settings, SCOPE).find()
    assert (letter.state, letter.failures) == ("expired", 0)
    assert await registration.settled() == {"default": "expired"}


async def test_a_registration_of_a_later_release_waits_in_the_same_way(
    manager: BackgroundFetchManager, settings: Settings, clock: Clock
) -> None:
    """Design §5, R20: the event can be read, but not what it is about."""
    sw = ServiceWorker(SCOPE)
    sw.add_event_listener("backgroundfetchabort", lambda event: None)
    registration = await manager.fetch("x", URL)
    await registration.abort()
    hash_, ask = FetchKeys(SCOPE, registration.uid).fetch, manager.connection.ask
    await ask("HSET", hash_, "failureReason", "from-the-future")
    await ask("HINCRBY", hash_, "version", 1)
    async with running(sw, settings) as outcomes:
        await handed_back(manager)
        await ask("HSET", hash_, "failureReason", "aborted")
        await clock.age_deliveries("default", NEWER_LEASES * settings.lease)
        acked = await outcomes.until("acked")

    assert acked[2] == 2
    outcome = await ask(
        "HGET",
        FetchKeys(SCOPE, registration.uid).events,
        "backgroundfetchabort|default",
    )
    assert outcome.startswith(b"acked 0 2")


async def test_what_cannot_be_read_holds_up_nobody_who_begins_with_it(
    manager: BackgroundFetchManager, settings: Settings
) -> None:
    """R20: many begin in one call, and each has its own answer."""
    inbox = Subscription(manager.connection, settings, SCOPE, "default")
    await inbox.join()
    keys = []
    for name in ("a", "b", "c"):
        registration = await manager.fetch(name, URL)
        await registration.abort()
        keys.append(FetchKeys(SCOPE, registration.uid))
    ask = manager.connection.ask
    await ask("HSET", keys[0].fetch, "failureReason", "from-the-future", "version", 99)
    await ask("HSET", keys[1].events, "backgroundfetchabort", "broken")
    rows = await hand_over(inbox, 10)
    deliveries = [
        Delivery(entry, EventMessage.decode(message), "default")
        for entry, message in rows
    ]

    answers = await asyncio.gather(
        *(inbox.begin(delivery) for delivery in deliveries), return_exceptions=True
    )
    await inbox.aclose()

    assert [type(answer) for answer in answers] == [
        InvalidMessage,
        ResponseError,
        Begun,
    ]
