"""Filters, and where a subscriber starts: who is owed an event (R11, R12, R21)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from broker.agenda import Agenda, Verdict
from broker.dead_letters import DeadLetters
from broker.deliveries import Begun, Delivery, Refused
from broker.handover import LOOK_AT
from broker.keys import FetchKeys, ScopeKeys
from broker.manager import BackgroundFetchManager
from broker.registration import BackgroundFetchRegistration
from broker.scripts import Script, script
from broker.settings import Settings
from broker.stream import Subscription
from broker.subscribers import Subscribers
from schemas.errors import InvalidState, Unreachable
from schemas.events import EventMessage
from schemas.filters import EventFilter
from tests.integration.clock import SCOPE, Clock
from tests.integration.delivering import (
    NOW,
    Process,
    begin,
    deliveries,
    hand_over,
    read,
)

HOUR = timedelta(hours=1)
SOON = timedelta(seconds=5)
URL = "https://cdn.example/1"
CLICKS = EventFilter.of(["click"])
EPISODES = EventFilter.of(ids="ep-*")


async def aborted(
    manager: BackgroundFetchManager, *ids: str
) -> list[BackgroundFetchRegistration]:
    """Fetches that have ended, one for each id."""
    made = [await manager.fetch(id, URL) for id in ids]
    for registration in made:
        await registration.abort()
    return made


def of(deliveries: list[Delivery]) -> list[str]:
    return [delivery.message.registration.id for delivery in deliveries]


async def about(manager: BackgroundFetchManager, uid: str) -> list[str]:
    """What is written of a fetch's abort event."""
    key = FetchKeys(SCOPE, uid).events
    value = await manager.connection.ask("HGET", key, "backgroundfetchabort")
    words: list[str] = value.decode().split(" ")
    return words


async def test_what_a_filter_excludes_is_neither_delivered_nor_owed(
    manager: BackgroundFetchManager, process: Process
) -> None:
    """R21: settled() answers without the subscriber, and records are released."""
    clicks, episodes = (
        await process("clicks", takes=CLICKS),
        await process("episodes", takes=EPISODES),
    )
    [episode, other] = await aborted(manager, "ep-5", "trailer")
    await other.click()

    [at_episodes] = await read(episodes)
    await episodes.ack(await begin(episodes, at_episodes))
    [at_clicks] = await read(clicks)

    assert at_episodes.message.registration.id == "ep-5"
    assert at_clicks.message.event == "backgroundfetchclick.1"
    assert isinstance(await clicks.begin(at_clicks), Begun)
    assert await episode.settled(SOON) == {"episodes": "acked"}
    assert await other.settled(SOON) == {}
    assert not episode.records_available
    await other.refresh()
    assert not other.records_available
    assert (await about(manager, episode.uid))[2:4] == ["1", "1"]
    assert (await about(manager, other.uid))[2:4] == ["0", "0"]


async def test_excluded_entries_are_acknowledged_and_counted_in_one_call(
    manager: BackgroundFetchManager, process: Process, subscribers: Subscribers
) -> None:
    sub = await process(takes=EPISODES)
    ids = [f"other-{number}" for number in range(120)]
    await aborted(manager, *ids, "ep-1", "ep-2", "ep-3")

    first = await read(sub, 2)
    second = await read(sub)
    idle = await read(sub)

    [look] = await subscribers.look()
    group = await manager.connection.redis.xpending(ScopeKeys(SCOPE).events, "a")
    assert (of(first), of(second), idle) == (["ep-1", "ep-2"], ["ep-3"], [])
    assert (look.excluded, look.lag, look.pending) == (120, 0, 3)
    assert look.takes == EPISODES
    assert group["pending"] == 3


async def test_what_was_sifted_is_read_again_after_a_lost_answer(
    manager: BackgroundFetchManager, process: Process
) -> None:
    """R20, R22: it is this consumer's; what was excluded is not, and counts once."""
    sub = await process(takes=EPISODES)
    await aborted(manager, "ep-1", "trailer")

    lost = await hand_over(sub, 10)
    again = await sub.pending()

    assert lost == again
    assert len(lost) == 1
    [look] = await manager.subscribers.look()
    assert look.excluded == 1


async def test_a_publication_costs_the_same_however_many_subscribe(
    manager: BackgroundFetchManager, process: Process
) -> None:
    """Faults row 94, R11: with one filter for many, too; counted, not timed."""

    async def commands() -> int:
        """How many commands an abort takes, its script's own among them."""
        registration = await manager.fetch("x", URL)
        await manager.connection.ask("CONFIG", "RESETSTAT")
        await registration.abort()
        stats = await manager.connection.ask("INFO", "commandstats")
        return sum(
            row["calls"]
            for name, row in stats.items()
            if name not in ("cmdstat_config|resetstat", "cmdstat_ping")
        )

    await process("first")
    await commands()  # which sends each script once in full
    with_one = await commands()
    for number in range(300):
        sub = Subscription(
            manager.connection,
            manager.settings,
            SCOPE,
            f"s{number}",
            takes=EPISODES if number % 2 else EventFilter(),
        )
        await sub.join()
        await sub.aclose()
    with_many = await commands()

    key = ScopeKeys(SCOPE).scope_hash
    assert with_many == with_one
    assert await manager.connection.ask("HGET", key, "filters") == b"150 * ep-*"


async def test_one_call_looks_at_a_bounded_number_of_entries(
    manager: BackgroundFetchManager, process: Process
) -> None:
    """R22: what is left is looked at by the next call."""
    sub = await process(takes=EPISODES)
    fields = ("delivery", "0/backgroundfetchabort", "message", "", "id", "x")
    async with manager.connection.redis.pipeline(transaction=False) as pipe:
        for _ in range(LOOK_AT + 1):
            pipe.execute_command(
                "XADD", ScopeKeys(SCOPE).events, "*", *fields, "version", 1
            )
        await pipe.execute()
    await aborted(manager, "ep-1")

    first, second = await read(sub), await read(sub)

    assert (first, of(second)) == ([], ["ep-1"])


async def test_an_entry_that_tells_no_id_is_left_to_the_process(
    manager: BackgroundFetchManager, process: Process
) -> None:
    """An entry of an older release, or of nobody we know."""
    sub = await process(takes=EPISODES)
    events = ScopeKeys(SCOPE).events
    await manager.connection.ask(
        "XADD", events, "*", "delivery", "?", "message", "junk"
    )

    assert [message for _, message in await hand_over(sub, 1)] == [b"junk"]


async def test_begin_refuses_what_the_filter_excludes(
    manager: BackgroundFetchManager, process: Process
) -> None:
    """A process that reads without the filter, as older releases do, is told."""
    knows_not = await process(takes=EventFilter())
    await process(takes=EPISODES)
    await aborted(manager, "ep-5", "trailer")

    redis, stream = manager.connection.redis, ScopeKeys(SCOPE).events
    await redis.xreadgroup("a", knows_not.consumer, {stream: ">"})
    episode, other = deliveries(knows_not, await knows_not.pending())

    assert isinstance(await knows_not.begin(episode), Begun)
    assert await knows_not.begin(other) is Refused.DONE


async def test_another_filter_counts_for_later_events_alone(
    manager: BackgroundFetchManager, process: Process
) -> None:
    """R11, R21: a change of filter is a new membership from then on."""
    before = await process(takes=EPISODES)
    early = await aborted(manager, "ep-1", "trailer-1")
    after = await process(takes=EventFilter.of(ids="trailer-*"))
    late = await aborted(manager, "ep-2", "trailer-2")
    await before.join(again=True)

    got = [*await read(after), *await read(before)]
    for delivery in got:
        await after.ack(await begin(after, delivery))

    assert of(got) == ["ep-1", "trailer-2"]
    for registration, outcome in zip(
        [*early, *late], [{"a": "acked"}, {}, {}, {"a": "acked"}], strict=True
    ):
        assert await registration.settled(SOON) == outcome


async def test_memberships_are_forgotten_with_the_last_event_that_needs_them(
    manager: BackgroundFetchManager, process: Process
) -> None:
    keys = ScopeKeys(SCOPE)
    for number in range(5):
        await process(takes=EventFilter.of(ids=f"{number}-*"))
        await aborted(manager, f"{number}-x")
    filled = await manager.connection.ask("HGET", keys.subscribers, "a")
    await manager.connection.ask("XTRIM", keys.events, "MAXLEN", 0)

    await process()

    emptied = await manager.connection.ask("HGET", keys.subscribers, "a")
    assert len(filled.splitlines()) == 5
    assert emptied.splitlines() == [b"6 - - * *"]


async def test_filters_that_change_to_and_fro_are_not_kept_for_ever(
    manager: BackgroundFetchManager, process: Process
) -> None:
    """R22: what nothing was published under is forgotten; the rest has a limit."""
    key = ScopeKeys(SCOPE).subscribers

    async def lines() -> list[bytes]:
        value: bytes = await manager.connection.ask("HGET", key, "a")
        return value.splitlines()

    await process(takes=EPISODES)
    [early] = await aborted(manager, "ep-1")
    for _ in range(30):
        await process(takes=CLICKS)
        await process()
    idle = await lines()
    for number in range(98):
        await early.click()
        await process(takes=EventFilter.of(ids=f"{number}-*"))
    await early.click()
    with pytest.raises(InvalidState, match="had a hundred filters"):
        await process(takes=CLICKS)
    full = await lines()
    sub = await process(takes=EventFilter.of(ids="97-*"))
    [delivery, *_] = await read(sub)
    await sub.ack(await begin(sub, delivery))

    assert (len(idle), len(full)) == (2, 100)
    assert await early.settled(SOON) == {"a": "acked"}


async def test_joining_again_and_leaving_keep_the_count_of_filters(
    manager: BackgroundFetchManager,
    process: Process,
    subscribers: Subscribers,
    clock: Clock,
) -> None:
    """R11: the number owed is right at each publication; repetitions change nothing."""

    async def filters() -> bytes | None:
        key = ScopeKeys(SCOPE).scope_hash
        found: bytes | None = await manager.connection.ask("HGET", key, "filters")
        return found

    for name in ("a", "b", "a"):
        await process(name, takes=EPISODES)
    both = await filters()
    await process("a", takes=CLICKS)
    two = await filters()
    await process("b")
    one = await filters()
    await clock.age_deliveries("a", HOUR)
    await subscribers.remove("a")

    assert both == b"2 * ep-*"
    assert two == b"1 * ep-*\n1 backgroundfetchclick *"
    assert one == b"1 backgroundfetchclick *"
    assert await filters() is None
    [registration] = await aborted(manager, "x")
    assert (await about(manager, registration.uid))[2] == "1"


async def test_a_filter_that_nobody_passes_does_not_end_a_hold(
    manager: BackgroundFetchManager, process: Process
) -> None:
    """R12: a producer's hold is a member of the set like any other."""
    await process(takes=CLICKS)
    registration = await manager.fetch("x", URL, hold=HOUR)
    await registration.abort()
    await registration.refresh()

    held = registration.records_available
    await registration.release()
    look = await Agenda(manager.connection, manager.settings).look(
        FetchKeys(SCOPE, registration.uid)
    )

    assert held
    assert look.verdict is Verdict.RELEASED
    assert await registration.settled(SOON) == {}


async def test_the_first_subscriber_adopts_what_its_filter_takes(
    manager: BackgroundFetchManager, process: Process
) -> None:
    """R12: what it does not take stays open, and keeps its records."""
    [episode, other] = await aborted(manager, "ep-1", "trailer")
    sub = await process(takes=EPISODES)

    [delivery] = await read(sub)
    await sub.ack(await begin(sub, delivery))

    assert await episode.settled(SOON) == {"a": "acked"}
    await other.refresh()
    assert other.records_available


async def test_a_click_waits_for_no_event_that_the_filter_excludes(
    manager: BackgroundFetchManager, process: Process
) -> None:
    """R19: an event begins after its predecessor, unless that was not owed."""
    sub = await process(takes=CLICKS)
    [registration] = await aborted(manager, "x")
    await registration.click()
    await registration.click()

    first, second = await read(sub)

    assert await sub.begin(second) is Refused.WAIT
    assert isinstance(await sub.begin(first), Begun)


async def test_a_failure_under_a_filter_comes_again_and_is_settled_once(
    manager: BackgroundFetchManager, process: Process, clock: Clock
) -> None:
    """R20: the filter that counts is the one at publication, for redeliveries too."""
    sub = await process(takes=EPISODES)
    [registration] = await aborted(manager, "ep-1")
    begun = await begin(sub, (await read(sub))[0])
    await sub.nack(begun, failed=True, delay=HOUR, reason="ValueError: no")
    changed = await process(takes=CLICKS)
    await clock.age_deliveries("a", HOUR)

    [(entry, message)] = await changed.collect(10)
    again = await begin(changed, Delivery(entry, EventMessage.decode(message), "a"))
    await changed.ack(again)

    assert again.attempt == 2
    assert await registration.settled(SOON) == {"a": "acked"}


async def test_a_group_that_redis_lost_is_reported_as_such(
    manager: BackgroundFetchManager, process: Process
) -> None:
    """R9: joining makes it again at 0; what has an outcome is skipped."""
    sub = await process(takes=EPISODES)
    await aborted(manager, "ep-1")
    await sub.ack(await begin(sub, (await read(sub))[0]))
    await aborted(manager, "ep-2")
    events = ScopeKeys(SCOPE).events
    await manager.connection.ask("XGROUP", "DESTROY", events, "a")

    with pytest.raises(Unreachable, match="NOGROUP"):
        await hand_over(sub, 10)
    await sub.join(again=True)
    done, new = await read(sub)

    assert await sub.begin(done) is Refused.DONE
    assert isinstance(await sub.begin(new), Begun)


@pytest.mark.parametrize("start", ["all", HOUR])
async def test_a_subscriber_may_start_with_events_that_it_is_not_owed(
    manager: BackgroundFetchManager,
    process: Process,
    start: Any,
) -> None:
    """R11: others may receive an event; they are not owed it."""
    first = await process("first")
    [early] = await aborted(manager, "early")
    begun = await begin(first, (await read(first))[0])
    late = await process("late", start=start)
    [own] = await aborted(manager, "own")

    extra, owed = await read(late)
    await late.ack(await begin(late, extra))
    await early.refresh()
    before = early.records_available
    await first.ack(begun)
    await late.ack(await begin(late, owed))
    await first.ack(await begin(first, (await read(first))[0]))

    assert of([extra, owed]) == ["early", "own"]
    assert before
    assert await early.settled(SOON) == {"first": "acked"}
    assert await own.settled(SOON) == {"first": "acked", "late": "acked"}


async def test_a_start_in_the_future_or_among_excluded_events_brings_none(
    manager: BackgroundFetchManager, process: Process
) -> None:
    await process("first")
    await aborted(manager, "ep-1", "trailer")
    sub = await process("b", takes=EPISODES, start="all")
    new = await process("c")

    got = await read(sub)

    assert of(got) == ["ep-1"]
    assert await read(new) == []


async def test_an_extra_delivery_fails_expires_and_leaves_without_counting(
    manager: BackgroundFetchManager,
    process: Process,
    clock: Clock,
    settings: Settings,
) -> None:
    """R9, R11: its outcome is written, but the event's end did not wait for it."""
    strict = settings.model_copy(update={"max_deliveries": 1})
    first = await process("first")
    [early] = await aborted(manager, "early")
    await process("late", start="all")
    late = Subscription(manager.connection, strict, SCOPE, "late")
    begun = await begin(late, (await read(late))[0])
    await late.nack(begun, failed=True, delay=NOW, reason="ValueError: no")
    await late.aclose()
    letters = DeadLetters(manager.connection, manager.settings, SCOPE)
    [letter] = await letters.find()
    await first.ack(await begin(first, (await read(first))[0]))

    await early.refresh()
    released = not early.records_available
    keys = FetchKeys(SCOPE, early.uid)
    await clock.age_settlement(keys, settings.retention)
    agenda = Agenda(manager.connection, settings)
    look = await agenda.look(keys)
    expired = await agenda.expire(look.overdue)
    [copy] = await letters.find()

    assert released
    assert letter.state == "failed"
    assert (look.verdict, expired, copy.state) == (Verdict.EXPIRE, 1, "expired")
    assert await early.settled(SOON) == {"first": "acked"}


def _matcher() -> Script:
    """A script that answers what a publication asks of a filter."""
    real = script("pause").source.split("if not is_member")[0]
    real = real[real.index("-- Included where filters") :]
    source = real + "return matches(ARGV[1], ARGV[2], ARGV[3], ARGV[4]) and 1 or 0"
    return Script("matches", source, "0" * 40)


def _glob(pattern: str, id: str) -> bool:
    """The same in the plainest way: which ends of the id may follow each piece?"""
    ends = {0}
    for letter in pattern:
        if letter == "*":
            ends = set(range(min(ends, default=len(id) + 1), len(id) + 1))
        else:
            ends = {end + 1 for end in ends if id[end : end + 1] == letter}
    return len(id) in ends


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.text("ab*é?", min_size=1, max_size=8), st.text("abé?", max_size=9)
        ),
        min_size=20,
        max_size=60,
    )
)
def test_a_pattern_matches_what_it_says(
    redis_url: str, rows: list[tuple[str, str]]
) -> None:
    from redis import Redis

    with Redis.from_url(redis_url) as redis:
        source = _matcher().source
        for pattern, id in rows:
            takes = EventFilter.of(["click"], pattern)
            event = "backgroundfetchclick.7"
            types, ids = str(takes).split(" ", 1)
            answer = redis.eval(source, 0, types, ids, event, id)
            wrong = redis.eval(source, 0, "backgroundfetchfail", ids, event, id)

            assert (answer, wrong) == (int(_glob(pattern, id)), 0), (pattern, id)


def test_no_pattern_is_slow(redis_url: str) -> None:
    """Faults row 81, R22: a thousand stars, which take a naive matcher for ever."""
    from redis import Redis

    with Redis.from_url(redis_url, socket_timeout=60) as redis:
        source = _matcher().source
        for _ in range(100):
            answer = redis.eval(source, 0, "*", "a*" * 511 + "b", "e", "a" * 1024)

            assert answer == 0
