"""Deliveries: begin, extend, acknowledge, fail, move to another process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest

from broker.agenda import Agenda, Verdict
from broker.deliveries import Begun, Refused
from broker.holding import Nack
from broker.keys import FetchKeys
from broker.manager import BackgroundFetchManager
from broker.settings import Settings
from broker.stream import Subscription
from schemas.errors import InvalidState
from schemas.events import EventType
from tests.integration.clock import SCOPE, Clock
from tests.integration.delivering import begin, collect, read
from workers.housekeeping import take_over

URL = "https://cdn.example/1"
Join = Callable[[str], "AsyncIterator[Subscription]"]


@pytest.fixture
async def process(
    manager: BackgroundFetchManager, settings: Settings
) -> AsyncIterator[Callable[..., object]]:
    """Start one more process of a subscriber."""
    async with AsyncExitStack() as stack:

        async def start(name: str = "a") -> Subscription:
            subscription = Subscription(manager.connection, settings, SCOPE, name)
            await subscription.join()
            stack.push_async_callback(subscription.aclose)
            return subscription

        yield start


async def extend(
    manager: BackgroundFetchManager, process: Subscription, *held: Begun
) -> list[bytes]:
    keys, arguments = process.extension(held)
    lost: list[bytes] = await manager.connection.run("extend", keys, arguments)
    return lost


async def test_the_acknowledgement_of_every_subscriber_releases_the_records(
    manager: BackgroundFetchManager, process: Callable[..., object]
) -> None:
    """Guarantee 6, faults 93, BF-PERF-08, BF-WAIT-10."""
    first, second = await process("a"), await process("b")  # type: ignore[misc]
    registration = await manager.fetch("x", URL)
    await registration.abort()
    [at_first], [at_second] = await read(first), await read(second)

    await first.ack(await begin(first, at_first))
    await registration.refresh()
    while_one_works = registration.records_available
    await second.ack(await begin(second, at_second))
    await registration.refresh()

    assert while_one_works
    assert not registration.records_available
    with pytest.raises(InvalidState, match="released"):
        await registration.match_all()


async def test_the_first_subscriber_adopts_the_events_that_waited_for_one(
    manager: BackgroundFetchManager, process: Callable[..., object]
) -> None:
    """BF-EVT-02, R12: an empty set is open, not settled."""
    registration = await manager.fetch("x", URL)
    await registration.abort()
    await registration.refresh()
    before = registration.records_available

    first = await process("a")  # type: ignore[misc]
    late = await process("b")  # type: ignore[misc]
    [delivery] = await read(first)
    await first.ack(await begin(first, delivery))
    await registration.refresh()

    assert before
    assert await read(late) == []
    assert not registration.records_available


async def test_an_acknowledgement_sent_twice_counts_once(
    manager: BackgroundFetchManager, process: Callable[..., object]
) -> None:
    """R10, R22: the second subscriber still owes its own."""
    first, _ = await process("a"), await process("b")  # type: ignore[misc]
    registration = await manager.fetch("x", URL)
    await registration.abort()
    begun = await begin(first, (await read(first))[0])

    answers = [await first.ack(begun), await first.ack(begun)]

    await registration.refresh()
    assert answers == [True, True]
    assert registration.records_available


async def test_a_dead_holders_delivery_moves_and_its_late_acknowledgement_is_refused(
    manager: BackgroundFetchManager,
    process: Callable[..., object],
    clock: Clock,
    settings: Settings,
) -> None:
    """Guarantee 4, R10: fenced by a nonce."""
    dead, heir = await process("a"), await process("a")  # type: ignore[misc]
    await (await manager.fetch("x", URL)).abort()
    lost = await begin(dead, (await read(dead))[0])
    await clock.age_deliveries("a", settings.lease)

    [member] = await heir.expired()
    verdict = await heir.expire(member)
    [again] = await collect(heir)
    begun = await begin(heir, again)
    late = await dead.ack(lost)

    assert verdict is Nack.WAITING
    assert (begun.attempt, begun.failures) == (2, 1)
    assert again.delivery_id == lost.delivery.delivery_id
    assert late is False
    assert await heir.ack(begun) is True


async def test_a_lease_that_is_extended_is_not_taken_over(
    manager: BackgroundFetchManager,
    process: Callable[..., object],
    clock: Clock,
    settings: Settings,
) -> None:
    """Guarantee 4: a live handler keeps its delivery however long it works."""
    alive = await process("a")  # type: ignore[misc]
    await (await manager.fetch("x", URL)).abort()
    begun = await begin(alive, (await read(alive))[0])
    await clock.age_deliveries("a", settings.lease)

    lost = await extend(manager, alive, begun)

    assert lost == []
    assert await alive.expired() == []
    assert await alive.dead_consumers() == []


async def test_an_extension_tells_which_deliveries_are_lost(
    manager: BackgroundFetchManager,
    process: Callable[..., object],
    clock: Clock,
    settings: Settings,
) -> None:
    """R20: extension names its deliveries, and never steals one back."""
    slow, heir = await process("a"), await process("a")  # type: ignore[misc]
    await (await manager.fetch("x", URL)).abort()
    begun = await begin(slow, (await read(slow))[0])
    await clock.age_deliveries("a", settings.lease)
    await heir.expire(begun.delivery.member)

    lost = await extend(manager, slow, begun)

    assert lost == [begun.delivery.member.encode()]


async def test_what_a_dead_process_never_began_moves_without_a_failure(
    manager: BackgroundFetchManager,
    process: Callable[..., object],
    clock: Clock,
    settings: Settings,
) -> None:
    """R9, R20: hand-over does not count; the consumer goes when nothing is pending."""
    dead, heir = await process("a"), await process("a")  # type: ignore[misc]
    await (await manager.fetch("x", URL)).abort()
    await read(dead)
    await clock.age_deliveries("a", settings.lease)

    assert dead.consumer in await heir.dead_consumers()
    moved = await heir.bury(dead.consumer)
    [delivery] = await collect(heir)
    begun = await begin(heir, delivery)

    assert moved == 1
    assert (begun.attempt, begun.failures) == (1, 0)
    groups = await manager.connection.redis.xinfo_consumers(
        f"bgfetch:{SCOPE}:events", "a"
    )
    assert dead.consumer.encode() not in [group["name"] for group in groups]


async def test_who_reads_after_its_burial_and_dies_is_buried_again(
    manager: BackgroundFetchManager,
    process: Callable[..., object],
    clock: Clock,
    settings: Settings,
) -> None:
    """R9, R20: it was stopped for longer than a lease, woke, read, and was killed."""
    woken, heir = await process("a"), await process("a")  # type: ignore[misc]
    await clock.age_deliveries("a", settings.lease)
    await take_over(heir)
    await (await manager.fetch("x", URL)).abort()
    [lost] = await read(woken)

    await take_over(heir)
    [delivery] = await collect(heir)

    assert delivery.entry == lost.entry
    assert (await begin(heir, delivery)).failures == 0


async def test_a_failed_delivery_waits_for_its_time_then_becomes_a_dead_letter(
    manager: BackgroundFetchManager,
    process: Callable[..., object],
    clock: Clock,
) -> None:
    """R20, R21: a dead letter is not settled, so it keeps the records."""
    sub = await process("a")  # type: ignore[misc]
    registration = await manager.fetch("x", URL)
    await registration.abort()
    [delivery] = await read(sub)
    verdicts = []

    for _ in range(manager.settings.max_deliveries):
        begun = await begin(sub, delivery)
        hour = timedelta(hours=1)
        verdicts.append(
            await sub.nack(begun, failed=True, delay=hour, reason="ValueError: no")
        )
        waiting = await collect(sub)
        assert waiting == []
        await clock.age_deliveries("a", hour)
        delivery = next(iter(await collect(sub)), delivery)

    await registration.refresh()
    assert verdicts[-2:] == [Nack.WAITING, Nack.DEAD]
    assert await sub.begin(delivery) is Refused.DONE
    assert registration.records_available


async def test_handing_back_does_not_count_as_a_failure(
    manager: BackgroundFetchManager, process: Callable[..., object]
) -> None:
    """R20: shutdown during a handler."""
    sub = await process("a")  # type: ignore[misc]
    await (await manager.fetch("x", URL)).abort()
    begun = await begin(sub, (await read(sub))[0])

    await sub.nack(begun, failed=False, delay=timedelta(0), reason="handed back")
    again = await begin(sub, (await collect(sub))[0])

    assert (again.attempt, again.failures) == (2, 0)


async def test_an_event_does_not_begin_before_its_predecessor_has(
    manager: BackgroundFetchManager, process: Callable[..., object], clock: Clock
) -> None:
    """R19: the order of first starts; afterwards both may run at once."""
    sub, other = await process("a"), await process("a")  # type: ignore[misc]
    registration = await manager.fetch("x", URL)
    await registration.click()
    await registration.abort()
    [click, abort] = await read(sub)

    early = await other.begin(abort)
    await begin(sub, click)
    await clock.age_deliveries("a", timedelta(seconds=1))
    [again] = await collect(other)
    begun = await begin(other, again)

    assert early is Refused.WAIT
    assert click.message.type is EventType.CLICK
    assert begun.delivery.message.predecessor == "backgroundfetchclick.1"


async def test_a_group_that_was_lost_begins_again_without_repeating_what_is_settled(
    manager: BackgroundFetchManager, process: Callable[..., object]
) -> None:
    """R9: made again at 0, skipping deliveries that have an outcome."""
    sub = await process("a")  # type: ignore[misc]
    registration = await manager.fetch("x", URL)
    await registration.click()
    await registration.abort()
    [click, _] = await read(sub)
    await sub.ack(await begin(sub, click))
    await manager.connection.redis.xgroup_destroy(f"bgfetch:{SCOPE}:events", "a")

    await sub.join()
    [click_again, abort_again] = await read(sub)

    assert await sub.begin(click_again) is Refused.DONE
    assert isinstance(await sub.begin(abort_again), Begun)


async def test_a_hold_keeps_the_records_after_the_last_acknowledgement(
    manager: BackgroundFetchManager, process: Callable[..., object]
) -> None:
    """Guarantee 6: release() ends it early."""
    sub = await process("a")  # type: ignore[misc]
    registration = await manager.fetch("x", URL, hold=timedelta(hours=1))
    await registration.abort()
    await sub.ack(await begin(sub, (await read(sub))[0]))
    await registration.refresh()
    held = registration.records_available

    await registration.release()
    look = await Agenda(manager.connection, manager.settings).look(
        FetchKeys(SCOPE, registration.uid)
    )
    await registration.refresh()

    assert held
    assert look.verdict is Verdict.RELEASED
    assert not registration.records_available


async def test_the_end_of_a_hold_releases_what_nobody_subscribed_to(
    manager: BackgroundFetchManager,
) -> None:
    """R12: a hold is a member of the set; without one the set is open."""
    agenda = Agenda(manager.connection, manager.settings)
    held = await manager.fetch("held", URL, hold=timedelta(hours=1))
    open_ = await manager.fetch("open", URL)
    for registration in (held, open_):
        await registration.abort()
        before = await agenda.look(FetchKeys(SCOPE, registration.uid))
        await registration.release()
        after = await agenda.look(FetchKeys(SCOPE, registration.uid))
        await registration.refresh()
        assert before.verdict is Verdict.WAIT
        assert (after.verdict is Verdict.RELEASED) == (registration is held)

    assert not held.records_available
    assert open_.records_available


async def test_a_hold_that_ends_before_the_fetch_keeps_nothing(
    manager: BackgroundFetchManager,
) -> None:
    """R12, guarantee 6: it was the only member of the set, and has settled."""
    registration = await manager.fetch("x", URL, hold=timedelta(hours=1))

    await registration.release()
    await registration.abort()

    assert await registration.settled(timedelta(seconds=30)) == {}
    assert not registration.records_available
