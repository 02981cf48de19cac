"""How events reach a process: in one call with the right to handle them (R20)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest

from broker.deliveries import Begun
from broker.keys import FetchKeys
from broker.manager import BackgroundFetchManager
from broker.pipelining import Pipelining
from broker.settings import Settings
from broker.stream import Subscription
from broker.subscribers import Subscribers
from schemas.errors import Unreachable
from tests.integration.clock import SCOPE, Clock
from tests.integration.delivering import NOW, Process, begin, collect, deliveries

LONG = timedelta(seconds=20)
URL = "https://cdn.example/1"


async def publish(manager: BackgroundFetchManager, *ids: str) -> list[str]:
    """End some fetches; return their uids."""
    uids = []
    for id in ids:
        registration = await manager.fetch(id, URL)
        await registration.abort()
        uids.append(registration.uid)
    return uids


async def receive(process: Subscription, count: int = 10) -> list[Begun]:
    """What is there for a process."""
    return (await process.receive(count, NOW)).begun


async def waiting(manager: BackgroundFetchManager, count: int) -> None:
    """Return once so many processes wait in Redis for an event."""
    async with asyncio.timeout(20):
        while True:
            info = await manager.connection.ask("INFO", "clients")
            if info["blocked_clients"] == count:
                return
            await asyncio.sleep(0.01)


async def lose(process: Subscription, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lose the answer to a call that Redis has carried out."""
    ask_all = Pipelining.ask_all

    async def asked(self: Pipelining, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
        await ask_all(self, commands)
        raise ConnectionError("the answer was lost")

    with monkeypatch.context() as patch:
        patch.setattr(Pipelining, "ask_all", asked)
        with pytest.raises(Unreachable):
            await receive(process)


async def test_a_call_hands_over_events_in_order_and_begins_them(
    manager: BackgroundFetchManager, process: Process
) -> None:
    """R19: what follows an event of the same fetch begins in the same call."""
    sub = await process()
    registration = await manager.fetch("x", URL)
    await registration.click()
    await registration.abort()

    begun = await receive(sub)

    events = [each.delivery.message.event for each in begun]
    assert events == ["backgroundfetchclick.1", "backgroundfetchabort"]
    assert [(each.attempt, each.failures) for each in begun] == [(1, 0), (1, 0)]
    assert [each.state.result for each in begun] == ["failure", "failure"]
    assert [await sub.ack(each) for each in begun] == [True, True]
    assert await registration.settled(LONG) == {"a": "acked"}


async def test_no_more_are_begun_than_there_is_room_for(
    manager: BackgroundFetchManager, process: Process
) -> None:
    sub, other = await process(), await process()
    await publish(manager, "1", "2", "3")

    shares = [await receive(sub, 2), await receive(other, 2), await receive(sub, 0)]

    assert [len(share) for share in shares] == [2, 1, 0]


async def test_one_process_wakes_and_holds_what_is_published(
    manager: BackgroundFetchManager, process: Process
) -> None:
    """An event costs one call of one process, however many wait for it."""
    processes = [await process(), await process()]
    for each in processes:
        assert await receive(each) == []
    tasks = [asyncio.create_task(each.receive(10, LONG)) for each in processes]
    await waiting(manager, 2)

    await publish(manager, "x")

    async with asyncio.timeout(20):
        done, idle = await asyncio.wait(tasks, return_when="FIRST_COMPLETED")
    assert [len(task.result().begun) for task in done] == [1]
    assert len(idle) == 1
    for task in idle:
        task.cancel()
    await asyncio.wait(idle)


async def test_the_rights_of_an_answer_that_was_lost_come_with_the_next(
    manager: BackgroundFetchManager, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R20, R22: the same call gets the same rights, and what came meanwhile."""
    sub = await process()
    await publish(manager, "lost")
    await lose(sub, monkeypatch)
    await publish(manager, "later")

    begun = await receive(sub)

    ids = [each.delivery.message.registration.id for each in begun]
    assert ids == ["lost", "later"]
    assert [each.attempt for each in begun] == [1, 1]
    assert await receive(sub) == []
    assert [await sub.ack(each) for each in begun] == [True, True]


async def test_what_dies_with_an_answer_on_its_way_has_not_failed(
    manager: BackgroundFetchManager,
    process: Process,
    monkeypatch: pytest.MonkeyPatch,
    clock: Clock,
    settings: Settings,
) -> None:
    """R20: neither hand-over nor lost replies count."""
    dead, heir = await process(), await process()
    await publish(manager, "x")
    await lose(dead, monkeypatch)
    await clock.age_deliveries("a", settings.lease)

    [member] = await heir.expired()
    await heir.expire(member)
    again = await begin(heir, (await collect(heir))[0])

    assert again.failures == 0


async def test_what_dies_after_its_answer_came_has_failed(
    manager: BackgroundFetchManager,
    process: Process,
    clock: Clock,
    settings: Settings,
) -> None:
    """R20: a handler that kills its process is not repeated for ever."""
    dead, heir = await process(), await process()
    await publish(manager, "x")
    assert len(await receive(dead)) == 1
    await receive(dead, 0)
    await clock.age_deliveries("a", settings.lease)

    [member] = await heir.expired()
    await heir.expire(member)
    again = await begin(heir, (await collect(heir))[0])

    assert again.failures == 1


async def test_who_leaves_hands_back_what_came_with_an_answer_that_was_lost(
    manager: BackgroundFetchManager, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R20: at once, and without a failure."""
    leaver, other = await process(), await process()
    await publish(manager, "x")
    await lose(leaver, monkeypatch)

    await leaver.leave()
    begun = await begin(other, (await collect(other))[0])

    assert begun.failures == 0
    assert await other.expired() == []


async def test_what_comes_to_a_waiting_process_after_a_pause_waits_for_its_end(
    manager: BackgroundFetchManager, process: Process, subscribers: Subscribers
) -> None:
    sub = await process()
    await receive(sub)
    task = asyncio.create_task(sub.receive(10, LONG))
    await waiting(manager, 1)
    await subscribers.pause("a")
    await publish(manager, "x")

    async with asyncio.timeout(20):
        received = await task
    await subscribers.resume("a")

    assert (received.begun, received.rows) == ([], [])
    [delivery] = await collect(sub)
    assert (await begin(sub, delivery)).attempt == 1


async def test_what_cannot_be_begun_by_itself_holds_up_nobody(
    manager: BackgroundFetchManager, process: Process
) -> None:
    """R20: begin is asked about it, and answers for it alone."""
    sub = await process()
    broken, sound = await publish(manager, "broken", "sound")
    key = FetchKeys(SCOPE, broken).events
    await manager.connection.ask("HSET", key, "backgroundfetchabort", "broken")

    received = await sub.receive(10, NOW)

    assert [each.delivery.uid for each in received.begun] == [sound]
    assert [each.uid for each in deliveries(sub, received.rows)] == [broken]


async def test_a_registration_that_cannot_be_read_is_begun_again_under_its_nonce(
    manager: BackgroundFetchManager, process: Process
) -> None:
    sub = await process()
    [uid] = await publish(manager, "x")
    key, ask = FetchKeys(SCOPE, uid).fetch, manager.connection.ask
    await ask("HSET", key, "failureReason", "from-the-future", "version", 99)

    received = await sub.receive(10, NOW)
    await ask("HSET", key, "failureReason", "aborted")
    [delivery] = deliveries(sub, received.rows)
    begun = await sub.begin(delivery, received.nonce)

    assert received.begun == []
    assert isinstance(begun, Begun)
    assert begun.attempt == 1
