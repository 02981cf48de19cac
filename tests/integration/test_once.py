"""``event.once()``: an effect that redeliveries do not repeat."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from broker.agenda import Agenda
from broker.deliveries import Begun, Delivery
from broker.keys import FetchKeys
from broker.manager import BackgroundFetchManager
from broker.settings import Settings
from broker.stream import Subscription
from schemas.errors import InvalidName, InvalidState
from schemas.events import EventMessage
from tests.integration.clock import SCOPE, Clock
from tests.integration.delivering import hand_over
from tests.integration.outcomes import running
from workers.events import BackgroundFetchEvent
from workers.service_worker import ServiceWorker

URL = "https://cdn.example/1"
NOW = timedelta(milliseconds=1)


@pytest.fixture
def sw() -> ServiceWorker:
    return ServiceWorker(SCOPE)


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_completed_block_is_not_repeated_and_one_that_raised_is(
    manager: BackgroundFetchManager,
    settings: Settings,
    sw: ServiceWorker,
    is_async: bool,
) -> None:
    """Faults 88: the same delivery, another attempt."""
    firsts: list[tuple[str, int, bool]] = []

    def act(event: BackgroundFetchEvent, step: str, first: bool) -> None:
        firsts.append((step, event.attempt, first))
        if step == "mail" and event.attempt == 1:
            raise ValueError("no mail server")

    async def on_the_loop(event: BackgroundFetchEvent) -> None:
        async with event.once("charge") as first:
            act(event, "charge", first)
        async with event.once("mail") as first:
            act(event, "mail", first)
        if event.attempt < 3:
            raise ValueError("something later")

    def in_a_thread(event: BackgroundFetchEvent) -> None:
        with event.once("charge") as first:
            act(event, "charge", first)
        with event.once("mail") as first:
            act(event, "mail", first)
        if event.attempt < 3:
            raise ValueError("something later")

    sw.onbackgroundfetchabort = on_the_loop if is_async else in_a_thread
    async with running(sw, settings) as outcomes:
        await (await manager.fetch("x", URL)).abort()
        acked = await outcomes.until("acked")

    assert acked[2] == 3
    assert firsts == [
        ("charge", 1, True),
        ("mail", 1, True),
        ("charge", 2, False),
        ("mail", 2, True),
        ("charge", 3, False),
        ("mail", 3, False),
    ]


async def test_each_subscriber_and_each_event_has_marks_of_its_own(
    manager: BackgroundFetchManager, settings: Settings, sw: ServiceWorker
) -> None:
    seen: list[tuple[str, str, bool]] = []

    def listener(name: str) -> Callable[[BackgroundFetchEvent], object]:
        async def handle(event: BackgroundFetchEvent) -> None:
            async with event.once() as first:
                seen.append((name, event.type, first))

        return handle

    other = ServiceWorker(SCOPE, name="other")
    for each in (sw, other):
        each.onbackgroundfetchclick = listener(each.name)
        each.onbackgroundfetchabort = listener(each.name)
    async with running(sw, settings) as one, running(other, settings) as two:
        registration = await manager.fetch("x", URL)
        await registration.click()
        await registration.abort()
        for outcomes in (one, two, one, two):
            await outcomes.until("acked")

    assert len(seen) == 4
    assert all(first for _, _, first in seen)


async def test_misuse_is_told(
    manager: BackgroundFetchManager, settings: Settings, sw: ServiceWorker
) -> None:
    raised: list[str] = []

    @sw.on("backgroundfetchabort")
    async def aborted(event: BackgroundFetchEvent) -> None:
        async with event.once():
            pass
        try:
            event.once()
        except InvalidState as error:
            raised.append(str(error))
        try:
            event.once("a|b")
        except InvalidName as error:
            raised.append(str(error))
        try:
            with event.once("other"):
                pass
        except RuntimeError as error:
            raised.append(str(error))

    registration = await manager.fetch("x", URL)
    async with running(sw, settings) as outcomes:
        await registration.abort()
        await outcomes.until("acked")

    assert [
        word in told
        for word, told in zip(
            ("used twice", "'a|b' is no step name", "async with"), raised, strict=True
        )
    ] == [True] * 3
    with pytest.raises(InvalidState, match="not delivered"):
        BackgroundFetchEvent("x", registration=registration).once()


async def begin(process: Subscription, rows: list[tuple[str, bytes]]) -> Begun:
    [(entry, message)] = rows
    delivery = Delivery(entry, EventMessage.decode(message), process.subscriber)
    begun = await process.begin(delivery)
    assert isinstance(begun, Begun)
    return begun


async def test_who_has_lost_the_delivery_can_neither_ask_nor_tell(
    manager: BackgroundFetchManager, settings: Settings, clock: Clock
) -> None:
    """R10: fenced by the delivery's nonce, so that two never hold one block."""
    dead, heir = (
        Subscription(manager.connection, settings, SCOPE, "a") for _ in range(2)
    )
    for process in (dead, heir):
        await process.join()
    await (await manager.fetch("x", URL)).abort()
    lost = await begin(dead, await hand_over(dead, 1))
    open_before = not await dead.steps(lost).is_done("mail")
    await clock.age_deliveries("a", settings.lease)
    [member] = await heir.expired()
    await heir.expire(member)
    again = await begin(heir, await heir.collect(1))

    for call in (dead.steps(lost).complete, dead.steps(lost).is_done):
        with pytest.raises(InvalidState, match="another process"):
            await call("mail")
    still_open = not await heir.steps(again).is_done("mail")
    for _ in range(2):  # after a lost answer, say
        await heir.steps(again).complete("mail")

    assert open_before
    assert still_open
    assert await heir.steps(again).is_done("mail")
    for process in (dead, heir):
        await process.aclose()


async def test_marks_live_as_long_as_a_delivery_can_be_repeated(
    manager: BackgroundFetchManager,
    settings: Settings,
    sw: ServiceWorker,
    clock: Clock,
) -> None:
    """Until the retention ends; then nothing is left, and nothing is delivered."""
    sw.onbackgroundfetchabort = complete_once
    registration = await manager.fetch("x", URL)
    async with running(sw, settings) as outcomes:
        await registration.abort()
        await outcomes.until("acked")
    keys = FetchKeys(SCOPE, registration.uid)
    mark = "backgroundfetchabort|default|once|handled"
    kept = await manager.connection.ask("HEXISTS", keys.events, mark)

    await clock.age_settlement(keys, settings.retention)
    agenda = Agenda(manager.connection, settings)
    await agenda.purged(keys)
    await agenda.look(keys)

    assert kept
    assert not await manager.connection.ask("EXISTS", keys.events)


async def complete_once(event: BackgroundFetchEvent) -> None:
    async with event.once():
        await asyncio.sleep(0)
