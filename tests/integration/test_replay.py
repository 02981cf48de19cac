"""Replay of a time range: the same deliveries again, nothing owed anew (R21)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from broker.dead_letters import DeadLetters
from broker.deliveries import Begun, Delivery, DeliveryName, Refused
from broker.keys import FetchKeys, ScopeKeys
from broker.manager import BackgroundFetchManager
from broker.registration import BackgroundFetchRegistration
from broker.settings import Settings
from broker.subscribers import Subscribers
from schemas.filters import EventFilter
from tests.integration.clock import SCOPE, Clock
from tests.integration.delivering import NOW, Process, begin, collect, read

HOUR = timedelta(hours=1)
SOON = timedelta(seconds=5)
URL = "https://cdn.example/1"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Two failures are enough for a dead letter."""
    return settings.model_copy(update={"max_deliveries": 2})


async def aborted(
    manager: BackgroundFetchManager, *ids: str
) -> list[BackgroundFetchRegistration]:
    made = [await manager.fetch(id, URL) for id in ids]
    for registration in made:
        await registration.abort()
    return made


def of(found: list[Delivery]) -> list[str]:
    return sorted(delivery.message.registration.id for delivery in found)


async def test_what_was_settled_comes_again_and_keeps_its_outcome(
    manager: BackgroundFetchManager, process: Process, subscribers: Subscribers
) -> None:
    """The same delivery, another attempt; whatever becomes of it, it was acked."""
    sub = await process()
    [registration] = await aborted(manager, "x")
    first = await begin(sub, (await read(sub))[0])
    await sub.ack(first)

    count = await subscribers.replay("a", since=HOUR)
    [delivery] = await collect(sub)
    again = await begin(sub, delivery)
    late = await sub.ack(first)
    while_again = await registration.settled(SOON)
    for _ in range(2):
        await sub.nack(again, failed=True, delay=NOW, reason="ValueError: no")
        begun = await sub.begin(delivery)
        again = begun if isinstance(begun, Begun) else again
    letters = DeadLetters(manager.connection, manager.settings, SCOPE)
    [letter] = await letters.find()
    purged = await letters.purge(letter)

    assert count == 1
    assert delivery.delivery_id == first.delivery.delivery_id
    assert (first.attempt, again.attempt) == (1, 3)
    assert late is False
    assert while_again == {"a": "acked"}
    assert (letter.failures, purged) == (2, True)
    assert await registration.settled(SOON) == {"a": "acked"}
    key = FetchKeys(SCOPE, registration.uid).events
    about = await manager.connection.ask("HGET", key, "backgroundfetchabort")
    assert about.split(b" ")[2:4] == [b"1", b"1"]


async def test_what_is_owed_comes_with_its_failures_forgotten(
    manager: BackgroundFetchManager,
    process: Process,
    subscribers: Subscribers,
    clock: Clock,
) -> None:
    """Dead and waiting ones come; what runs or was never read is left alone."""
    sub = await process()
    registrations = await aborted(manager, "dead", "waiting", "runs")
    dead, waiting, runs = await read(sub)
    for _ in range(2):
        begun = await begin(sub, dead)
        await sub.nack(begun, failed=True, delay=NOW, reason="ValueError: no")
    begun = await begin(sub, waiting)
    await sub.nack(begun, failed=True, delay=HOUR, reason="ValueError: no")
    await begin(sub, runs)
    await aborted(manager, "unread")

    count = await subscribers.replay("a", since=HOUR)
    again = [await begin(sub, delivery) for delivery in await collect(sub)]
    for begun in again:
        await sub.ack(begun)

    assert count == 2
    assert of([begun.delivery for begun in again]) == ["dead", "waiting"]
    assert [begun.failures for begun in again] == [0, 0]
    assert of(await read(sub)) == ["unread"]
    assert await registrations[0].settled(SOON) == {"a": "acked"}
    assert await registrations[1].settled(SOON) == {"a": "acked"}
    assert await DeadLetters(manager.connection, manager.settings, SCOPE).find() == []


async def test_what_was_never_owed_comes_if_the_filter_lets_it(
    manager: BackgroundFetchManager, process: Process, subscribers: Subscribers
) -> None:
    first = await process("first")
    early = await aborted(manager, "ep-1", "trailer")
    sub = await process(takes=EventFilter.of(ids="ep-*"))

    count = await subscribers.replay("a", since=HOUR)
    [delivery] = await collect(sub)
    await sub.ack(await begin(sub, delivery))
    before = [registration.records_available for registration in early]
    for each in await read(first):
        await first.ack(await begin(first, each))

    assert count == 1
    assert of([delivery]) == ["ep-1"]
    assert before == [True, True]
    assert await early[0].settled(SOON) == {"first": "acked"}


async def test_an_unread_event_that_is_replayed_is_handled_once(
    manager: BackgroundFetchManager, process: Process, subscribers: Subscribers
) -> None:
    """A filtered reader may meet it in the stream as well: it is excluded there."""
    sub = await process(takes=EventFilter.of(ids="ep-*"))
    await aborted(manager, "trailer")
    everything = await process()

    count = await subscribers.replay("a", since=HOUR)
    met = [*await read(sub), *await read(everything), *await collect(everything)]
    begun = [await everything.begin(delivery) for delivery in met]

    assert count == 1
    assert sum(isinstance(each, Begun) for each in begun) == 1


async def test_a_range_has_two_ends(
    manager: BackgroundFetchManager, process: Process, subscribers: Subscribers
) -> None:
    sub = await process()
    for id in ("before", "within", "after"):
        await aborted(manager, id)
    found = await read(sub)
    for delivery in found:
        await sub.ack(await begin(sub, delivery))
    rows = await manager.connection.ask("XRANGE", ScopeKeys(SCOPE).events, "-", "+")
    at = [int(entry.split(b"-")[0]) for entry, _ in rows]
    since = datetime.fromtimestamp(at[1] / 1000, UTC)
    within = sum(at[1] <= each <= at[1] for each in at)

    middle = await subscribers.replay("a", since=since, until=since)
    none = await subscribers.replay("a", since=timedelta(0), until=HOUR)
    nobody = await subscribers.replay("nobody", since=HOUR)

    assert middle == within
    assert (none, nobody) == (0, 0)


async def test_a_replay_sent_twice_counts_once(
    manager: BackgroundFetchManager, process: Process
) -> None:
    """R22, R23: the token of a call has one answer."""
    sub = await process()
    await aborted(manager, "x")
    [delivery] = await read(sub)
    await sub.ack(await begin(sub, delivery))
    name = DeliveryName.of(SCOPE, "a", delivery.member)
    keys, arguments = name.context(manager.settings)
    scope = ScopeKeys(SCOPE)
    more = [FetchKeys(SCOPE, name.uid).tokens, scope.subscribers]

    async def send() -> int:
        answer: int = await manager.connection.run(
            "replay",
            [*keys, *name.letter_keys(), *more],
            [*arguments, "replay:token", 1],
        )
        return answer

    first = await send()
    [again] = await collect(sub)
    await sub.ack(await begin(sub, again))
    second = await send()

    assert (first, second) == (1, 1)
    assert await collect(sub) == []
    assert await sub.begin(again) is Refused.DONE
