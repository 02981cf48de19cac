"""The limit of an origin, divided among processes by the script (R25)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from broker.keys import ORIGINS, RECLAIM, OriginKeys
from broker.manager import BackgroundFetchManager
from broker.origins import Grant, OriginReport, Origins, all_origins, look_at
from broker.settings import Settings, milliseconds

ORIGIN = "https://cdn.example"
KEYS = OriginKeys(ORIGIN)
Fleet = Callable[..., Origins]


@pytest.fixture
def fleet(manager: BackgroundFetchManager, settings: Settings) -> Fleet:
    """Return a function that makes one more process."""

    def process(**overrides: object) -> Origins:
        changed = settings.model_copy(update=overrides)
        return Origins(manager.connection, changed)

    return process


async def ask(process: Origins, held: int, wanted: int, **more: object) -> Grant:
    rate = float(str(more.pop("rate", 0)))
    origin = str(more.pop("origin", ORIGIN))
    report = OriginReport(origin, held, wanted, held, rate, **more)  # type: ignore[arg-type]
    [grant] = await process.renew([report])
    return grant


async def age(manager: BackgroundFetchManager, by: timedelta) -> None:
    """Move what is written about the origin into the past."""
    past = -milliseconds(by)
    for field in ("loweredAt", "steppedAt", "pausedUntil", "nudgedAt"):
        if await manager.connection.ask("HEXISTS", KEYS.origin_hash, field):
            await manager.connection.ask("HINCRBY", KEYS.origin_hash, field, past)
    for nonce in await manager.connection.ask("ZRANGE", KEYS.holders, 0, -1):
        await manager.connection.ask("ZINCRBY", KEYS.holders, past, nonce)


async def test_a_single_process_gets_all_that_it_wants_at_once(fleet: Fleet) -> None:
    process = fleet()

    few, all_ = await ask(process, 0, 3), await ask(process, 3, 100)

    assert few == Grant(3, None, limit=32)
    assert all_ == Grant(32, None, limit=32)


async def test_what_a_process_may_still_run_is_not_promised_to_another(
    fleet: Fleet,
) -> None:
    """R25: it is booked lower only when its holder says so."""
    first, second = fleet(), fleet()
    await ask(first, 0, 32)

    early = await ask(second, 0, 32)
    lowered = await ask(first, 32, 32)
    still = await ask(second, 0, 32)
    await ask(first, 20, 32)
    some = await ask(second, 0, 32)
    await ask(first, 16, 32)
    half = await ask(second, 12, 32)

    assert [early.connections, still.connections] == [0, 0]
    assert (lowered.connections, lowered.contended) == (16, True)
    assert [some.connections, half.connections] == [12, 16]


async def test_nobody_is_given_more_than_it_wants_and_the_rest_goes_to_the_others(
    fleet: Fleet,
) -> None:
    first, second, third = fleet(), fleet(), fleet()
    for process in (first, second, third):
        await ask(process, 0, 0)
    await ask(first, 0, 2)

    big = await ask(second, 0, 100)
    await ask(third, 0, 100)
    rebalanced = await ask(second, 30, 100)

    assert big.connections == 30
    assert rebalanced.connections == 15


async def test_what_cannot_be_divided_goes_round(
    fleet: Fleet, settings: Settings
) -> None:
    """One of three processes has the only turn, another one a part of a lease later."""
    soon = {"origin_connections": 1, "lease": timedelta(milliseconds=40)}
    fast = [fleet(**soon) for _ in range(3)]
    had = set()

    for _ in range(3000):
        for process in fast:
            if (await ask(process, 0, 5)).connections:
                had.add(process.nonce)
        if len(had) == 3:
            break

    assert len(had) == 3


async def test_a_complaint_halves_the_limit_for_all_and_says_why(
    fleet: Fleet, manager: BackgroundFetchManager
) -> None:
    """Faults 58: 32 complaints at once count once."""
    first, second = fleet(), fleet()
    await ask(first, 0, 10)

    for _ in range(31):
        await ask(first, 10, 10, complaint="status 429")
    told = await ask(first, 10, 10, complaint="status 429")
    other = await ask(second, 0, 100)
    [look] = await look_at(manager.connection, [ORIGIN])

    assert (told.limit, told.reason, told.connections) == (16, "status 429", 10)
    assert (other.limit, other.reason, other.connections) == (16, "status 429", 6)
    assert (look.limit, look.base, look.reason) == (16, 32, "status 429")
    assert (look.used, look.processes) == (10, 2)
    assert look.lowered_at is not None
    assert 0 <= look.now - look.lowered_at < 60_000


async def test_later_complaints_lower_the_limit_down_to_one(
    fleet: Fleet, manager: BackgroundFetchManager
) -> None:
    process, limits = fleet(), []

    for _ in range(7):
        limits.append((await ask(process, 0, 1, complaint="status 503")).limit)
        await age(manager, timedelta(seconds=6))

    assert limits == [16, 8, 4, 2, 1, 1, 1]


async def test_a_lowered_limit_rises_by_one_after_good_answers(
    fleet: Fleet, manager: BackgroundFetchManager
) -> None:
    process = fleet(origin_connections=4)
    await ask(process, 0, 4, complaint="status 429")

    early = await ask(process, 2, 4, good=True)
    await age(manager, timedelta(seconds=11))
    idle = await ask(process, 2, 4, good=False)
    risen = await ask(process, 2, 4, good=True)
    again = await ask(process, 2, 4, good=True)
    await age(manager, timedelta(seconds=11))
    whole = await ask(process, 2, 4, good=True)
    [look] = await look_at(manager.connection, [ORIGIN])

    assert [g.limit for g in (early, idle, risen, again, whole)] == [2, 2, 3, 3, 4]
    assert risen.reason == "status 429"
    assert whole.reason == look.reason == ""
    assert look.lowered_at is None


async def test_a_limit_of_one_forgets_its_reason_in_time(
    fleet: Fleet, manager: BackgroundFetchManager
) -> None:
    process = fleet(origin_connections=1)
    told = await ask(process, 0, 1, complaint="status 429")
    await age(manager, timedelta(seconds=11))

    later = await ask(process, 0, 1, good=True)

    assert (told.limit, told.reason) == (1, "status 429")
    assert (later.limit, later.reason) == (1, "")


async def test_a_pause_holds_for_all_and_the_longest_counts(
    fleet: Fleet, manager: BackgroundFetchManager
) -> None:
    first, second = fleet(), fleet()
    long, short = timedelta(minutes=10), timedelta(seconds=3)
    await ask(first, 1, 1, complaint="status 429", pause=long)

    after = await ask(second, 1, 1, complaint="status 503", pause=short)
    elsewhere = await ask(second, 0, 1, origin="https://other.example")
    await age(manager, long)
    over = await ask(second, 1, 1)

    assert short < after.pause <= long
    assert elsewhere == Grant(1, None, limit=32)
    assert over.pause == timedelta(0)
    assert over.limit == 16


async def test_the_grant_of_a_dead_process_ends_with_its_lease(
    fleet: Fleet, manager: BackgroundFetchManager, settings: Settings
) -> None:
    """R25."""
    dead, heir = fleet(), fleet()
    await ask(dead, 0, 32)

    before = await ask(heir, 0, 32)
    await age(manager, settings.lease)
    after = await ask(heir, 0, 32)

    assert (before.connections, after.connections) == (0, 32)


async def test_no_grant_ends_while_leases_could_not_be_renewed(
    fleet: Fleet, manager: BackgroundFetchManager, settings: Settings
) -> None:
    """R15."""
    silent, other = fleet(), fleet()
    await ask(silent, 0, 32)
    await age(manager, settings.lease)
    soon = await manager.connection.now() + 60_000
    await manager.connection.ask("HSET", RECLAIM, "grace_until", soon)

    in_grace = await ask(other, 0, 32)
    await manager.connection.ask("HSET", RECLAIM, "grace_until", 0)
    after = await ask(other, 0, 32)

    assert (in_grace.connections, after.connections) == (0, 32)


async def test_a_process_that_leaves_gives_its_grant_back(
    fleet: Fleet, manager: BackgroundFetchManager
) -> None:
    first, second = fleet(), fleet()
    await ask(first, 0, 32)
    await ask(first, 0, 0)

    assert (await ask(second, 0, 32)).connections == 32
    assert await manager.connection.ask("ZCARD", KEYS.holders) == 1


async def test_a_rate_is_divided_among_those_who_want(fleet: Fleet) -> None:
    """And never promised twice."""
    first, second = fleet(origin_rate=2.5), fleet(origin_rate=2.5)

    alone = await ask(first, 0, 5)
    early = await ask(second, 0, 5)
    lowered = await ask(first, 5, 5, rate=2.5)
    await ask(first, 5, 5, rate=1.25)
    half = await ask(second, 5, 5)

    assert (alone.rate, early.rate) == (2.5, 0)
    assert (lowered.rate, lowered.contended) == (1.25, True)
    assert half.rate == 1.25


async def test_newcomers_to_a_rate_wait_for_those_before_them(fleet: Fleet) -> None:
    """Many processes that make one request each keep to the rate as well."""
    workers = [fleet(origin_rate=0.1) for _ in range(3)]
    rests = []
    for worker in workers:
        grant = await ask(worker, 0, 1)
        rests.append(grant.rest.total_seconds())
        assert (await ask(worker, 0, 1, rate=grant.rate)).rest == timedelta(0)
        await ask(worker, 0, 0, rest=timedelta(seconds=100 * (worker is workers[1])))

    assert rests[0] == 0
    assert 5 < rests[1] <= 10
    assert 60 < rests[2] <= 100


async def test_an_idle_origin_is_forgotten_and_a_lowered_one_remembered(
    fleet: Fleet, manager: BackgroundFetchManager
) -> None:
    process = fleet()
    await ask(process, 0, 1)
    await ask(process, 0, 1, origin="http://low.example", complaint="status 503")

    looks = await all_origins(manager.connection)
    idle = await manager.connection.ask("PTTL", KEYS.origin_hash)
    kept = await manager.connection.ask(
        "PTTL", OriginKeys("http://low.example").origin_hash
    )
    await manager.connection.ask("ZADD", ORIGINS, 1, ORIGIN)
    left = await all_origins(manager.connection)

    assert [look.origin for look in looks] == ["http://low.example", ORIGIN]
    assert 0 < idle <= 20_000 < 3_000_000 < kept
    assert [look.origin for look in left] == ["http://low.example"]
