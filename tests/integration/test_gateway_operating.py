"""Operating over HTTP: subscribers, dead letters, processes, queues and origins."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from httpx2 import AsyncClient, Response

from broker.keys import OriginKeys
from broker.manager import BackgroundFetchManager
from broker.origins import OriginReport, Origins
from broker.processes import Process, Processes, Role
from broker.settings import Settings
from broker.stream import Subscription
from tests.integration.clock import SCOPE
from tests.integration.delivering import Process as Start
from tests.integration.delivering import begin, read
from tests.integration.pulling import Caller

URL = "https://origin.example/file"
SUBSCRIBERS = f"/api/v1/scopes/{SCOPE}/subscribers"
LETTERS = f"/api/v1/scopes/{SCOPE}/dead-letters"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The first failure is the last."""
    return settings.model_copy(update={"max_deliveries": 1})


async def fail(manager: BackgroundFetchManager, process: Subscription) -> None:
    """Let the delivery of a click fail for good."""
    registration = await manager.fetch("ep-5", URL)
    await registration.click()
    [delivery] = await read(process)
    begun = await begin(process, delivery)
    await process.nack(begun, failed=True, delay=timedelta(0), reason="no room")


def items(answer: Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


async def test_subscribers_are_listed_paused_resumed_and_removed(
    gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    caller = Caller(gateway)
    await caller.join(types=["click"])
    registration = await manager.fetch("ep-5", URL)
    await registration.click()

    [listed] = items(await gateway.get(SUBSCRIBERS))
    paused = (await gateway.post(f"{SUBSCRIBERS}/billing/pause")).json()
    resumed = (await gateway.post(f"{SUBSCRIBERS}/billing/resume")).json()
    removed = await gateway.delete(f"{SUBSCRIBERS}/billing")
    gone = await gateway.get(f"{SUBSCRIBERS}/billing")

    assert (listed["subscriber"], listed["lag"], listed["state"]) == (
        "billing",
        1,
        "active",
    )
    assert (paused["state"], resumed["state"]) == ("paused", "active")
    assert (removed.status_code, gone.status_code) == (204, 404)


async def test_a_subscriber_that_holds_a_delivery_is_not_removed(
    gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    caller = Caller(gateway)
    await caller.join()
    registration = await manager.fetch("ep-5", URL)
    await registration.click()
    await caller.pull()

    refused = await gateway.delete(f"{SUBSCRIBERS}/billing")

    assert refused.status_code == 409
    assert refused.json()["type"] == "/problems/invalid-state"


async def test_a_time_range_is_delivered_again(
    gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    """R21."""
    caller = Caller(gateway)
    await caller.join()
    registration = await manager.fetch("ep-5", URL)
    await registration.click()
    await caller.post("ack", await caller.pull())

    path = f"{SUBSCRIBERS}/billing/replay"
    answer = await gateway.post(path, json={"since": "2020-01-01T00:00:00Z"})
    [again] = await caller.pull(wait=30)
    nobodys = await gateway.post(
        f"{SUBSCRIBERS}/nobody/replay", json={"since": "2020-01-01T00:00:00Z"}
    )

    assert answer.json() == {"replayed": 1}
    assert again["attempt"] == 2
    assert nobodys.status_code == 404


async def test_dead_letters_are_shown_replayed_and_purged(
    gateway: AsyncClient, manager: BackgroundFetchManager, process: Start
) -> None:
    """R21."""
    mine = await process("a")
    await fail(manager, mine)

    [letter] = items(await gateway.get(LETTERS, params={"subscriber": "a"}))
    other = items(await gateway.get(LETTERS, params={"subscriber": "b"}))
    replayed = await gateway.post(
        f"{LETTERS}/replay", json={"delivery": letter["delivery"]}
    )
    none_left = items(await gateway.get(LETTERS))
    purged = await gateway.post(f"{LETTERS}/purge", json={"all": True})

    assert (letter["reason"], letter["failures"]) == ("no room", 1)
    assert letter["attempts"][0]["reason"] == "no room"
    assert letter["type"] == "backgroundfetchclick"
    assert other == none_left == []
    assert replayed.json() == {"matched": 1, "done": 1, "skipped": []}
    assert purged.json() == {"matched": 0, "done": 0, "skipped": []}


async def test_which_dead_letters_are_meant_has_to_be_said(
    gateway: AsyncClient,
) -> None:
    for form in ({}, {"all": True, "id": "x"}, {"type": "nonsense"}):
        answer = await gateway.post(f"{LETTERS}/purge", json=form)

        assert answer.status_code == 422, answer.text
        assert answer.json()["type"] == "/problems/wrong-form"


async def test_processes_tell_who_they_are_and_when_they_were_heard_of(
    gateway: AsyncClient, manager: BackgroundFetchManager, settings: Settings
) -> None:
    process = Process(Role.WORKER, "host-1:4711:9f8e7d6c")
    await Processes(manager.connection).beat(process, settings.lease)

    answer = (await gateway.get("/api/v1/processes")).json()
    [shown] = answer["processes"]

    assert (shown["role"], shown["host"], shown["pid"]) == ("worker", "host-1", 4711)
    assert 0 <= shown["heartbeatAge"] <= settings.lease.total_seconds()
    assert answer["workers"] == []


async def test_queues_have_counts_in_the_order_of_service(
    gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    await manager.fetch("ep-5", URL, priority="high")

    queues = items(await gateway.get("/api/v1/queues"))

    assert [queue["name"] for queue in queues] == [
        "bgfetch-high",
        "bgfetch",
        "bgfetch-low",
    ]
    assert [queue["waiting"] for queue in queues] == [1, 0, 0]


async def test_origins_tell_their_limits_and_why(
    gateway: AsyncClient, manager: BackgroundFetchManager, settings: Settings
) -> None:
    origin = "https://origin.example"
    report = OriginReport(
        origin, 0, 4, 0, 0.0, complaint="429", pause=timedelta(seconds=60)
    )
    await Origins(manager.connection, settings).renew([report])

    [shown] = items(await gateway.get("/api/v1/origins"))

    assert shown["origin"] == origin
    assert shown["reason"] == "429"
    assert shown["pausedUntil"]
    assert shown["limit"] < shown["base"]
    assert await manager.connection.ask("EXISTS", OriginKeys(origin).origin_hash)
