"""Dead letters: written with their history, replayed, purged, expired (R21)."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from broker.agenda import Agenda, Verdict
from broker.dead_letters import DeadLetters, LetterFilter
from broker.deliveries import Delivery, Refused
from broker.holding import Nack
from broker.keys import FetchKeys, ScopeKeys
from broker.manager import BackgroundFetchManager
from broker.quarantine import Quarantine
from broker.queue import JobQueue
from broker.settings import Settings
from broker.stream import Subscription
from schemas.events import DeadLetter
from tests.integration.clock import SCOPE, Clock
from tests.integration.delivering import NOW, Process, begin, deliveries, hand_over
from workers.reclaim import Reclaimer

HOUR = timedelta(hours=1)
URL = "https://cdn.example/1"


@pytest.fixture
def quarantine(manager: BackgroundFetchManager) -> Quarantine:
    """The quarantine of subscriber ``a``."""
    return Quarantine(manager.connection, manager.settings, SCOPE, "a")


@pytest.fixture
def letters(manager: BackgroundFetchManager) -> DeadLetters:
    """The dead letters of the scope."""
    return DeadLetters(manager.connection, manager.settings, SCOPE)


async def die(process: Subscription, clock: Clock, delivery: Delivery) -> Delivery:
    """Fail until the delivery is a dead letter."""
    while True:
        begun = await begin(process, delivery)
        reason = f"ValueError: attempt {begun.attempt}"
        verdict = await process.nack(begun, failed=True, delay=HOUR, reason=reason)
        if verdict is Nack.DEAD:
            return delivery
        await clock.age_deliveries(process.subscriber, HOUR)
        [delivery] = deliveries(process, await process.collect(1))


async def test_a_dead_letter_tells_who_failed_when_and_why(
    manager: BackgroundFetchManager,
    process: Process,
    letters: DeadLetters,
    clock: Clock,
) -> None:
    """R21: the whole history, handing back included."""
    sub = await process()
    registration = await manager.fetch("x", URL)
    await registration.abort()
    [delivery] = deliveries(sub, await hand_over(sub, 10))
    back = await begin(sub, delivery)
    await sub.nack(back, failed=False, delay=timedelta(0), reason="handed back")
    [delivery] = deliveries(sub, await sub.collect(1))

    await die(sub, clock, delivery)

    [letter] = await letters.find()
    told = [(each.attempt, each.failed, each.reason) for each in letter.attempts]
    most = manager.settings.max_deliveries
    assert told == [
        (1, False, "handed back"),
        *((n, True, f"ValueError: attempt {n}") for n in range(2, most + 2)),
    ]
    assert {each.consumer for each in letter.attempts} == {sub.consumer}
    assert all(each.at > 0 for each in letter.attempts)
    assert (letter.state, letter.failures) == ("failed", most)
    assert letter.reason == f"ValueError: attempt {most + 1}"
    assert (letter.id, letter.type) == ("x", "backgroundfetchabort")
    assert letter.delivery_id == delivery.delivery_id
    assert letter.message == delivery.message


async def test_a_history_keeps_its_newest_fifty_attempts_and_short_reasons(
    manager: BackgroundFetchManager,
    process: Process,
    letters: DeadLetters,
    clock: Clock,
) -> None:
    sub = await process()
    await (await manager.fetch("x", URL)).abort()
    [delivery] = deliveries(sub, await hand_over(sub, 10))

    for _ in range(60):
        begun = await begin(sub, delivery)
        await sub.nack(begun, failed=False, delay=NOW, reason="x" * 5000 + "\udc80")
        await clock.age_deliveries("a", HOUR)
        [delivery] = deliveries(sub, await sub.collect(1))
    await die(sub, clock, delivery)

    [letter] = await letters.find()
    most = 60 + manager.settings.max_deliveries
    assert [each.attempt for each in letter.attempts] == [*range(most - 49, most + 1)]
    assert len(letter.attempts[0].reason) == 1000


async def test_a_replay_is_the_same_delivery_without_its_failures(
    manager: BackgroundFetchManager,
    process: Process,
    letters: DeadLetters,
    clock: Clock,
) -> None:
    """R21: and its acknowledgement settles the event, which releases the records."""
    sub = await process()
    registration = await manager.fetch("x", URL)
    await registration.abort()
    [first] = deliveries(sub, await hand_over(sub, 10))
    await die(sub, clock, first)
    [letter] = await letters.find()
    await registration.refresh()
    kept = registration.records_available

    answers = [await letters.replay(letter), await letters.replay(letter)]
    [again] = deliveries(sub, await sub.collect(1))
    begun = await begin(sub, again)
    acked = await sub.ack(begun)

    await registration.refresh()
    assert kept
    assert answers == [True, False]
    assert again.delivery_id == first.delivery_id
    assert (begun.failures, begun.attempt) == (0, manager.settings.max_deliveries + 1)
    assert acked
    assert await letters.find() == []
    assert not registration.records_available


async def test_a_replay_that_fails_again_has_its_whole_history(
    manager: BackgroundFetchManager,
    process: Process,
    letters: DeadLetters,
    clock: Clock,
) -> None:
    sub = await process()
    await (await manager.fetch("x", URL)).abort()
    await die(sub, clock, deliveries(sub, await hand_over(sub, 10))[0])
    await letters.replay((await letters.find())[0])

    await die(sub, clock, deliveries(sub, await sub.collect(1))[0])

    [letter] = await letters.find()
    most = manager.settings.max_deliveries
    assert letter.failures == most
    assert len(letter.attempts) == 2 * most


async def test_a_purge_settles_the_delivery_and_releases_the_records(
    manager: BackgroundFetchManager,
    process: Process,
    letters: DeadLetters,
    clock: Clock,
) -> None:
    """R21, R22: purging twice is once."""
    sub, other = await process("a"), await process("b")
    registration = await manager.fetch("x", URL)
    await registration.abort()
    dead = await die(sub, clock, deliveries(sub, await hand_over(sub, 10))[0])
    [letter] = await letters.find()

    answers = [await letters.purge(letter), await letters.purge(letter)]
    await registration.refresh()
    while_the_other_owes = registration.records_available
    [theirs] = deliveries(other, await hand_over(other, 10))
    await other.ack(await begin(other, theirs))

    await registration.refresh()
    assert answers == [True, True]
    assert while_the_other_owes
    assert not registration.records_available
    assert await letters.find() == []
    assert await letters.replay(letter) is False
    assert await sub.begin(dead) is Refused.DONE


async def test_a_delivery_that_is_no_dead_letter_cannot_be_purged_or_replayed(
    manager: BackgroundFetchManager, process: Process, letters: DeadLetters
) -> None:
    sub = await process()
    registration = await manager.fetch("x", URL)
    await registration.abort()
    [delivery] = deliveries(sub, await hand_over(sub, 10))
    begun = await begin(sub, delivery)
    letter = DeadLetter(
        state="failed",
        subscriber="a",
        entry=delivery.entry,
        uid=delivery.uid,
        event=delivery.message.event,
        at=1,
    )

    answers = [await letters.purge(letter), await letters.replay(letter)]

    assert answers == [False, False]
    assert await sub.ack(begun)


async def test_letters_are_found_by_subscriber_type_id_and_delivery(
    manager: BackgroundFetchManager,
    process: Process,
    letters: DeadLetters,
    clock: Clock,
) -> None:
    sub, other = await process("a"), await process("b")
    for id in ("x", "y"):
        registration = await manager.fetch(id, URL)
        await registration.click()
        await registration.abort()
        for each in (sub, other):
            for delivery in deliveries(each, await hand_over(each, 10)):
                await die(each, clock, delivery)
    everything = await letters.find()

    by_subscriber = await letters.find(LetterFilter(subscriber="b"))
    by_type = await letters.find(LetterFilter(type="backgroundfetchclick", id="y"))
    one = await letters.find(LetterFilter(delivery_id=everything[3].delivery_id))

    assert len(everything) == 8
    assert everything[0].id == "x"
    assert {letter.subscriber for letter in by_subscriber} == {"b"}
    assert [letter.event for letter in by_type] == ["backgroundfetchclick.1"] * 2
    assert one == [everything[3]]


async def test_an_event_that_cannot_be_read_keeps_the_records_as_a_dead_letter(
    manager: BackgroundFetchManager,
    process: Process,
    letters: DeadLetters,
    quarantine: Quarantine,
) -> None:
    """R21: quarantined; a process that can read it may have it by a replay."""
    sub = await process()
    registration = await manager.fetch("x", URL)
    await registration.abort()
    [(entry, _)] = await hand_over(sub, 10)

    await quarantine.put_aside(entry, "no event")
    await quarantine.put_aside(entry, "no event")
    [letter] = await letters.find()
    await registration.refresh()
    kept = registration.records_available
    replayed = await letters.replay(letter)
    [again] = deliveries(sub, await sub.collect(1))
    await sub.ack(await begin(sub, again))

    await registration.refresh()
    assert (letter.state, letter.reason) == ("unreadable", "no event")
    assert (letter.id, letter.message) == ("x", None)
    assert kept
    assert replayed
    assert not registration.records_available


async def test_an_entry_that_is_no_event_of_ours_is_listed_and_can_be_purged(
    manager: BackgroundFetchManager,
    process: Process,
    letters: DeadLetters,
    quarantine: Quarantine,
) -> None:
    sub = await process()
    await manager.connection.ask(
        "XADD", ScopeKeys(SCOPE).events, "*", "delivery", "*/?", "message", "junk"
    )
    [(entry, _)] = await hand_over(sub, 10)

    await quarantine.put_aside(entry, "not a message")
    [letter] = await letters.find()

    assert letter.delivery_id == f"{entry}/a"
    assert await letters.replay(letter) is False
    assert await letters.purge(letter) is True
    assert await letters.find() == []


async def test_when_the_retention_ends_what_is_open_expires_and_leaves_a_copy(
    manager: BackgroundFetchManager,
    process: Process,
    letters: DeadLetters,
    clock: Clock,
    settings: Settings,
) -> None:
    """R9, R21: before anything is deleted; held, waiting, dead and unread alike."""
    dying, slow = await process("dying"), await process("slow")
    await process("idle")
    done = await process("done")
    registration = await manager.fetch("x", URL)
    await registration.abort()
    [delivery] = deliveries(done, await hand_over(done, 10))
    await done.ack(await begin(done, delivery))
    await die(dying, clock, deliveries(dying, await hand_over(dying, 10))[0])
    held = await begin(slow, deliveries(slow, await hand_over(slow, 10))[0])
    keys = FetchKeys(SCOPE, registration.uid)
    agenda = Agenda(manager.connection, settings)

    await clock.age_settlement(keys, settings.retention)
    look = await agenda.look(keys)
    await registration.refresh()
    readable = registration.records_available
    await agenda.expire(look.overdue)
    await agenda.expire(look.overdue)
    after = await agenda.look(keys)

    found = await letters.find()
    assert look.verdict is Verdict.EXPIRE
    assert {name.subscriber for name in look.overdue} == {"dying", "idle", "slow"}
    assert readable
    assert after.verdict is not Verdict.EXPIRE
    assert {letter.subscriber: letter.state for letter in found} == {
        "dying": "expired",
        "idle": "expired",
        "slow": "expired",
    }
    assert {len(letter.attempts) for letter in found} == {0, settings.max_deliveries}
    assert all(letter.message is not None for letter in found)
    assert await slow.ack(held) is False
    assert [await letters.replay(letter) for letter in found] == [False] * 3
    assert [await letters.purge(letter) for letter in found] == [True] * 3
    assert await letters.find() == []


async def test_copies_of_expired_deliveries_are_kept_for_one_more_retention(
    manager: BackgroundFetchManager,
    process: Process,
    letters: DeadLetters,
    clock: Clock,
    settings: Settings,
) -> None:
    await process("a")
    agenda = Agenda(manager.connection, settings)

    async def expire(id: str) -> None:
        registration = await manager.fetch(id, URL)
        await registration.abort()
        keys = FetchKeys(SCOPE, registration.uid)
        await clock.age_settlement(keys, settings.retention)
        await agenda.expire((await agenda.look(keys)).overdue)

    await expire("x")
    before = [letter.id for letter in await letters.find()]
    copies = ScopeKeys(SCOPE).subscriber("a").copies
    for member in await manager.connection.ask("ZRANGE", copies, 0, -1):
        await manager.connection.ask("ZADD", copies, 0, member)
    await expire("y")

    assert before == ["x"]
    assert [letter.id for letter in await letters.find()] == ["y"]


async def test_the_reclaimer_expires_before_it_releases_and_forgets(
    manager: BackgroundFetchManager,
    process: Process,
    letters: DeadLetters,
    clock: Clock,
    settings: Settings,
) -> None:
    """R9: more deliveries than one look names, then the fetch goes with its keys."""
    names = [f"s{number}" for number in range(120)]
    for name in names:
        await process(name)
    registration = await manager.fetch("x", URL)
    await registration.abort()
    keys = FetchKeys(SCOPE, registration.uid)
    hasty = settings.model_copy(update={"release_grace": timedelta(0)})
    queue = JobQueue(manager.connection.url)
    reclaimer = Reclaimer(Agenda(manager.connection, hasty), queue, None, hasty)

    await clock.age_settlement(keys, settings.retention)
    outcomes = asyncio.create_task(registration.settled(timedelta(seconds=20)))
    await reclaimer.look(keys)
    settled = await outcomes
    for _ in range(3):
        await reclaimer.look(keys)
    await queue.aclose()

    assert settled == dict.fromkeys(names, "expired")
    assert await manager.connection.ask("EXISTS", *keys.all()) == 0
    assert await manager.connection.ask("XLEN", ScopeKeys(SCOPE).events) == 0
    found = await letters.find()
    assert sorted(letter.subscriber for letter in found) == sorted(names)
    assert all(letter.id == "x" for letter in found)
    assert [await letters.replay(letter) for letter in found[:2]] == [False, False]
    assert [await letters.purge(letter) for letter in found[:2]] == [True, True]
