"""What happened to one fetch, and how its events stand at each subscriber."""

from __future__ import annotations

from datetime import timedelta

from broker.agenda import Agenda
from broker.delivery_looks import look_at_deliveries
from broker.keys import FetchKeys
from broker.lanes import LaneHold
from broker.manager import BackgroundFetchManager
from broker.processes import host_name
from broker.registration import BackgroundFetchRegistration
from broker.settings import Settings
from broker.timeline import timeline
from schemas.timelines import Happening, Moment
from tests.integration.clock import SCOPE, Clock
from tests.integration.delivering import NOW, Process, begin, read
from tests.integration.working import perform
from workers.demo.origin import Origin
from workers.engine import Engine

URL = "https://cdn.example/1"


async def moments(registration: BackgroundFetchRegistration) -> list[Moment]:
    """What happened to it."""
    owner = registration._owner
    keys = FetchKeys(registration.scope, registration.uid)
    return list(await timeline(owner.connection, keys))


async def test_a_timeline_tells_the_life_of_a_fetch(
    manager: BackgroundFetchManager, origin: Origin, engine: Engine, process: Process
) -> None:
    """Where it ran, what an attempt failed with, who has handled it."""
    origin.add("/a", b"bytes", fail_first=[(503, {})])
    subscription = await process("a")
    registration = await manager.fetch("x", origin.url("/a"), priority="high")
    await registration.pause()
    await registration.resume()
    while registration.result == "":
        await perform(engine, registration)
    [delivery] = await read(subscription)
    await subscription.nack(
        await begin(subscription, delivery), failed=True, delay=NOW, reason="Oops: no"
    )

    found = await moments(registration)

    told = [moment.what for moment in found]
    assert [each for each in told if each is not Happening.LANE_STARTED] == [
        Happening.CREATED,
        Happening.PAUSED,
        Happening.RESUMED,
        Happening.RECORD_WAITS,
        Happening.ENDED,
        Happening.PUBLISHED,
        Happening.BEGUN,
        Happening.FAILED,
    ]
    by = {moment.what: moment for moment in found}
    assert by[Happening.CREATED].detail == "1 request, priority high"
    assert host_name() in by[Happening.LANE_STARTED].detail
    assert "record 0" in by[Happening.RECORD_WAITS].detail
    assert "503" in by[Happening.RECORD_WAITS].detail
    assert by[Happening.ENDED].detail == "success"
    assert by[Happening.PUBLISHED].detail == "owed to 1 subscriber"
    assert by[Happening.BEGUN].subscriber == "a"
    assert by[Happening.FAILED].detail == "attempt 1: Oops: no"
    assert by[Happening.FAILED].event == "backgroundfetchsuccess"
    assert [each.at for each in found] == sorted(each.at for each in found)


async def test_a_timeline_tells_what_was_lost_and_tried_again(
    manager: BackgroundFetchManager, settings: Settings, clock: Clock, process: Process
) -> None:
    """A dead lane, a retry, an acknowledgement, the release of the records."""
    subscription = await process("a")
    first = await manager.fetch("x", URL)
    await first.abort()
    registration = await first.retry()
    keys = FetchKeys(SCOPE, registration.uid)
    await LaneHold(manager.connection, settings, keys).take("job", 1)
    agenda = Agenda(manager.connection, settings)
    await agenda.grace(timedelta(0))
    await clock.age_lanes(keys, timedelta(hours=1))
    await agenda.look(keys)
    await registration.abort()
    for delivery in await read(subscription):
        await subscription.ack(await begin(subscription, delivery))

    found = await moments(registration)

    assert [moment.what for moment in found] == [
        Happening.CREATED,
        Happening.LANE_STARTED,
        Happening.LANE_LOST,
        Happening.ENDED,
        Happening.PUBLISHED,
        Happening.BEGUN,
        Happening.ACKED,
        Happening.RELEASED,
    ]
    assert found[0].detail == f"1 request, priority auto, retry of {first.uid}"
    assert found[3].detail == "aborted"


async def test_a_journal_is_bounded(manager: BackgroundFetchManager) -> None:
    registration = await manager.fetch("x", URL)
    for _ in range(150):
        await registration.pause()
        await registration.resume()

    found = await moments(registration)

    assert 200 <= len(found) <= 251
    assert found[0].what is Happening.CREATED


async def test_a_fetch_that_is_not_retained_has_no_timeline(
    manager: BackgroundFetchManager,
) -> None:
    registration = await manager.fetch("x", URL)
    await registration.abort()
    await registration.forget()

    assert await moments(registration) == []


async def test_deliveries_are_told_for_each_subscriber(
    manager: BackgroundFetchManager, settings: Settings, process: Process
) -> None:
    holder, failing = await process("holder"), await process("failing")
    await process("idle")
    registration = await manager.fetch("x", URL)
    await registration.abort()
    await begin(holder, (await read(holder))[0])
    failed = await begin(failing, (await read(failing))[0])
    await failing.nack(failed, failed=True, delay=timedelta(hours=1), reason="no")
    await process("late")

    looks = await look_at_deliveries(
        manager.connection, settings, FetchKeys(SCOPE, registration.uid)
    )

    by = {look.subscriber: look for look in looks}
    assert sorted(by) == ["failing", "holder", "idle"]
    assert (by["idle"].state, by["idle"].attempt) == ("new", 0)
    assert (by["holder"].state, by["holder"].holder) == ("held", holder.consumer)
    assert by["holder"].held_until is not None
    assert (by["failing"].state, by["failing"].failures) == ("waiting", 1)
    assert by["failing"].due_at is not None
    assert by["failing"].due_at > by["failing"].published_at + 3_000_000
    assert all(look.owed for look in looks)
    assert {look.event for look in looks} == {"backgroundfetchabort"}
