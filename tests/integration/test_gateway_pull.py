"""Subscribers that pull over HTTP: the same leases, fences and order as processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from httpx2 import AsyncClient

from broker.agenda import Agenda
from broker.gateway import Server, create_app
from broker.manager import BackgroundFetchManager
from broker.settings import Settings
from broker.subscribers import Subscribers
from tests.integration.clock import SCOPE, Clock
from tests.integration.pulling import Caller
from workers.caretaker import Caretaker

URL = "https://origin.example/file"


@pytest.fixture
async def caller(gateway: AsyncClient) -> Caller:
    """A subscriber that has joined."""
    caller = Caller(gateway)
    await caller.join()
    return caller


@pytest.fixture
async def elsewhere(settings: Settings) -> AsyncIterator[Caller]:
    """The same subscriber, at another gateway."""
    server = Server(create_app(settings), "127.0.0.1", 0)
    serving = asyncio.create_task(server.serve())
    async with AsyncClient(base_url=server.address) as client:
        yield Caller(client)
    server.stop()
    await serving


async def pass_by(manager: BackgroundFetchManager, clock: Clock, by: timedelta) -> None:
    """Let leases end, and a gateway notice."""
    caretaker = Caretaker(manager.connection, manager.settings)
    await Agenda(manager.connection, manager.settings).grace(
        timedelta(0), name="pulled/"
    )
    await clock.age_deliveries("billing", by)
    await caretaker.make_pass()


async def test_an_event_is_pulled_and_acknowledged(
    caller: Caller, manager: BackgroundFetchManager
) -> None:
    """Guarantee 3; BF-WAIT-10."""
    registration = await manager.fetch("ep-5", URL)
    await registration.abort()

    [delivery] = await caller.pull()
    answer = await caller.post("ack", [delivery])
    again = await caller.post("ack", [delivery])
    outcomes = await registration.settled(timedelta(seconds=20))

    assert delivery["deliveryId"] == f"{registration.uid}/backgroundfetchabort/billing"
    assert (delivery["attempt"], delivery["failures"]) == (1, 0)
    assert delivery["event"]["type"] == "backgroundfetchabort"
    assert delivery["event"]["registration"]["failureReason"] == "aborted"
    assert answer.json()["results"][0]["outcome"] == "acked"
    assert again.status_code == 200
    assert outcomes == {"billing": "acked"}
    assert await caller.pull() == []


async def test_a_pull_waits_for_the_next_event(
    caller: Caller, manager: BackgroundFetchManager
) -> None:
    registration = await manager.fetch("ep-5", URL)
    pulled = asyncio.create_task(caller.pull(wait=60))
    await asyncio.wait([pulled], timeout=0.2)

    await registration.click()
    [delivery] = await pulled

    assert delivery["event"]["event"] == "backgroundfetchclick.1"


async def test_a_repeated_pull_gets_the_same_deliveries_at_another_gateway(
    caller: Caller, elsewhere: Caller, manager: BackgroundFetchManager
) -> None:
    """R14, R20: an answer that is lost costs no attempt."""
    first, second = await manager.fetch("a", URL), await manager.fetch("b", URL)
    await first.click()
    lost = await caller.pull(key="pull-1", lease=3600)
    await second.click()

    again = await elsewhere.pull(key="pull-1", lease=3600)
    new = await caller.pull(key="pull-2")

    assert [one["token"] for one in again if one["attempt"] == 1][:1] == [
        lost[0]["token"]
    ]
    assert again[0]["attempt"] == 1
    taken = {one["deliveryId"] for one in [*again, *new]}
    assert len(taken) == len(again) + len(new) == 2
    answer = await elsewhere.post("ack", again)
    assert answer.status_code == 200


async def test_a_late_acknowledgement_is_refused(
    caller: Caller, elsewhere: Caller, manager: BackgroundFetchManager, clock: Clock
) -> None:
    """Guarantee 4: after takeover the former holder's fence is void."""
    registration = await manager.fetch("ep-5", URL)
    await registration.click()
    late = await caller.pull(lease=30)
    await pass_by(manager, clock, timedelta(seconds=31))

    [taken] = await elsewhere.pull()
    refused = await caller.post("ack", late)
    extended = await caller.post("extend", late)
    nacked = await caller.post("nack", late)
    acked = await elsewhere.post("ack", [taken])

    assert (taken["attempt"], taken["failures"]) == (2, 1)
    for answer in (refused, extended, nacked):
        assert answer.status_code == 409
        assert answer.json()["type"] == "/problems/stale-deliveries"
        assert answer.json()["errors"][0]["where"] == late[0]["token"]
    assert acked.status_code == 200


async def test_only_the_caller_keeps_its_deliveries(
    caller: Caller, elsewhere: Caller, manager: BackgroundFetchManager, clock: Clock
) -> None:
    """R24 over HTTP: what is extended stays, at whichever gateway."""
    registration = await manager.fetch("ep-5", URL)
    await registration.click()
    held = await caller.pull(lease=30)
    await clock.age_deliveries("billing", timedelta(seconds=20))

    kept = await elsewhere.post("extend", held, lease=60)
    await pass_by(manager, clock, timedelta(seconds=45))
    nobodys = await elsewhere.pull()
    acked = await caller.post("ack", held)

    assert kept.json()["results"][0]["outcome"] == "extended"
    assert nobodys == []
    assert acked.status_code == 200


async def test_what_is_refused_comes_again_and_counts_only_if_it_failed(
    caller: Caller, manager: BackgroundFetchManager
) -> None:
    """R20."""
    registration = await manager.fetch("ep-5", URL)
    await registration.click()

    first = await caller.pull()
    handed = await caller.post("nack", first, failed=False)
    second = await caller.pull(wait=30)
    failed = await caller.post("nack", second, reason="no room", delay=0)
    third = await caller.pull(wait=30)

    assert handed.json()["results"][0]["outcome"] == "waiting"
    assert failed.status_code == 200
    tries = [(one["attempt"], one["failures"]) for one in [*first, *second, *third]]
    assert tries == [(1, 0), (2, 0), (3, 1)]


async def test_the_order_of_a_fetchs_events_holds(
    caller: Caller, elsewhere: Caller, manager: BackgroundFetchManager
) -> None:
    """R19: the order of first starts."""
    registration = await manager.fetch("ep-5", URL)
    await registration.click()
    await registration.click()
    await registration.abort()

    seen: list[str] = []
    while len(seen) < 3:
        pulled = await (caller, elsewhere)[len(seen) % 2].pull(max=1, wait=30)
        seen += [one["event"]["event"] for one in pulled]

    assert seen == [
        "backgroundfetchclick.1",
        "backgroundfetchclick.2",
        "backgroundfetchabort",
    ]


async def test_a_filter_and_a_start_hold_for_pulls(
    gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    """R21."""
    await Caller(gateway, "first").join()
    old = await manager.fetch("ep-1", URL)
    await old.abort()
    caller = Caller(gateway)
    told = await caller.join(types=["abort"], ids="ep-*", start="all")
    other, mine = await manager.fetch("x", URL), await manager.fetch("ep-2", URL)
    await mine.click()
    await other.abort()
    await mine.abort()

    pulled = await caller.pull()

    about = [one["event"]["registration"]["id"] for one in pulled]
    assert about == ["ep-1", "ep-2"]
    assert (told["types"], told["ids"]) == (["backgroundfetchabort"], "ep-*")


async def test_nothing_begins_while_a_subscriber_is_paused(
    caller: Caller, manager: BackgroundFetchManager, subscribers: Subscribers
) -> None:
    registration = await manager.fetch("ep-5", URL)
    await registration.click()
    await subscribers.pause("billing")

    paused = await caller.pull()
    await subscribers.resume("billing")
    resumed = await caller.pull(wait=30)

    assert (len(paused), len(resumed)) == (0, 1)


async def test_what_a_dead_gateway_read_comes_to_another(
    caller: Caller, manager: BackgroundFetchManager, clock: Clock, settings: Settings
) -> None:
    """R10: read, and not begun when the process ended."""
    registration = await manager.fetch("ep-5", URL)
    await registration.click()
    read_and_died = await Subscribers(manager.connection, settings, SCOPE).look()
    stream = f"bgfetch:{SCOPE}:events"
    keys = manager.connection
    await keys.ask(
        *("XREADGROUP", "GROUP", "billing", "http:dead", "STREAMS", stream, ">")
    )
    consumers = f"bgfetch:{SCOPE}:subscriber:billing:consumers"
    await keys.ask("ZADD", consumers, await keys.now(), "http:dead")

    stranded = await caller.pull()
    await pass_by(manager, clock, timedelta(seconds=1))
    [found] = await caller.pull()

    assert read_and_died[0].lag == 1
    assert stranded == []
    assert (found["attempt"], found["failures"]) == (1, 0)


async def test_consumers_are_forgotten_when_they_have_nothing_left(
    caller: Caller, manager: BackgroundFetchManager
) -> None:
    registration = await manager.fetch("ep-5", URL)
    for _ in range(5):
        await registration.click()
        held = await caller.pull(wait=30)
        await caller.post("ack", held)
        await caller.pull()

    groups = await manager.connection.redis.xinfo_groups(f"bgfetch:{SCOPE}:events")
    assert groups[0]["consumers"] == 0


async def test_what_a_caller_gets_wrong_is_a_problem(
    caller: Caller, gateway: AsyncClient
) -> None:
    stranger = Caller(gateway, "stranger")
    wrong = [
        (await gateway.post(f"{stranger.path}/pull", json={}), 404),
        (await gateway.post(f"{caller.path}/pull", json={"max": 0}), 422),
        (await gateway.post(f"{caller.path}/ack", json={"tokens": ["x"]}), 422),
        (await gateway.put(caller.path, json={"types": ["nonsense"]}), 422),
        (await gateway.put(caller.path, json={"start": "yesterday"}), 422),
    ]

    for answer, status in wrong:
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
