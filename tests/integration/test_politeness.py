"""Workers together are polite to an origin: two engines, one Redis, real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from email.utils import formatdate

import pytest

from broker.connection import Connection
from broker.keys import FetchKeys, OriginKeys
from broker.manager import BackgroundFetchManager
from broker.origins import OriginLook, look_at
from broker.registration import BackgroundFetchRegistration
from broker.settings import Settings
from broker.tasks import cancel_all
from schemas.fetches import Result
from tests.integration.clock import SCOPE
from tests.integration.crowd import Crowd
from workers.engine import Engine
from workers.origin_slots import OriginSlots

Start = Callable[..., "asyncio.Future[Engine]"]
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
LATER = "Sun, 06 Nov 1994 10:49:37 GMT"
SOON = "Sun, 06 Nov 1994 08:51:37 GMT"


@pytest.fixture
async def start(settings: Settings) -> AsyncIterator[Start]:
    """Return a function that starts one more engine."""
    async with AsyncExitStack() as stack:

        async def one(**overrides: object) -> Engine:
            engine = Engine(settings.model_copy(update=overrides), reclaiming=False)
            await engine.start()
            stack.push_async_callback(engine.aclose)
            return engine

        yield lambda **overrides: asyncio.ensure_future(one(**overrides))


async def fetch(
    manager: BackgroundFetchManager, engine: Engine, id: str, urls: Sequence[str]
) -> BackgroundFetchRegistration:
    """Let a lane of one engine carry a fetch, until it leaves."""
    registration = await manager.fetch(id, list(urls))
    async with asyncio.timeout(60):
        await engine.perform(SCOPE, registration.uid, "job")
    await registration.refresh()
    return registration


async def noted(
    engine: Engine, origin: Crowd, that: Callable[[OriginSlots], bool]
) -> None:
    """Wait until an engine stands so with an origin."""

    def stands() -> bool:
        own = engine._grants.slots.origins.get(origin.name)
        return own is not None and that(own)

    async with asyncio.timeout(60):
        while not stands():  # noqa: ASYNC110 - nothing else happens then
            await asyncio.sleep(0)


async def look(manager: BackgroundFetchManager, origin: Crowd) -> OriginLook:
    [found] = await look_at(manager.connection, [origin.name])
    return found


async def test_two_processes_never_exceed_the_limit_together(
    manager: BackgroundFetchManager, start: Start
) -> None:
    """And both get on."""
    limit = {"origin_connections": 4}
    first, second = await start(**limit), await start(**limit)
    async with Crowd() as origin:
        origin.shut()
        tasks = [
            asyncio.create_task(fetch(manager, engine, id, origin.urls(id, 60)))
            for engine, id in ((first, "a"), (second, "b"))
        ]
        await origin.reached(4)
        origin.open()
        done = await asyncio.gather(*tasks)

    assert [registration.result for registration in done] == [Result.SUCCESS] * 2
    assert origin.most == 4
    ends = [
        max(at for at, path in enumerate(origin.paths) if path.startswith(f"/{id}"))
        for id in ("a", "b")
    ]
    assert min(ends) > 60  # of 120: neither had to wait for the other to end


async def test_a_newcomer_has_its_share_before_the_others_lease_is_renewed(
    manager: BackgroundFetchManager, start: Start
) -> None:
    """By a message, not by a tick: the lease is far longer than the test."""
    limit = {"origin_connections": 4, "lease": timedelta(hours=1)}
    first, second = await start(**limit), await start(**limit)
    async with Crowd() as origin:
        origin.shut()
        long = asyncio.create_task(fetch(manager, first, "a", origin.urls("a", 100)))
        await origin.reached(4)
        late = asyncio.create_task(fetch(manager, second, "b", origin.urls("b", 2)))
        await noted(first, origin, lambda own: own._granted == 2)
        origin.let(2)
        await origin.asked(6)
        began = origin.paths[4:6]
        origin.open()
        await asyncio.gather(late, long)

    assert origin.most == 4
    assert sorted(began) == ["/b0", "/b1"]


async def test_one_429_lowers_the_limit_of_all_and_its_reason_is_seen(
    manager: BackgroundFetchManager, start: Start
) -> None:
    """Faults 58."""
    limit = {"origin_connections": 4}
    first, second = await start(**limit), await start(**limit)
    async with Crowd((429, {})) as origin:
        one = await fetch(manager, first, "a", origin.urls("a", 1))
        seen = await look(manager, origin)
        origin.shut()
        origin.most = 0
        working = asyncio.create_task(fetch(manager, second, "b", origin.urls("b", 9)))
        await origin.reached(2)
        origin.open()
        other = await working

    assert (seen.limit, seen.base, seen.reason) == (2, 4, "status 429")
    assert (one.result, other.result) == (Result.SUCCESS, Result.SUCCESS)
    assert origin.most == 2


async def test_the_limit_recovers_while_answers_are_good(
    manager: BackgroundFetchManager, start: Start
) -> None:
    quick = {"origin_recovery": timedelta(0), "lease": timedelta(milliseconds=200)}
    engine = await start(origin_connections=2, **quick)
    async with Crowd((503, {})) as origin:
        await fetch(manager, engine, "a", origin.urls("a", 1))
        async with asyncio.timeout(60):
            while (await look(manager, origin)).reason:
                await fetch(manager, engine, "b", origin.urls("b", 1))

        assert (await look(manager, origin)).limit == 2


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({"Retry-After": "120"}, 60, 120),
        ({"Retry-After": "1000000000"}, 3500, 3600),
        ({"Retry-After": LATER, "Date": DATE}, 3500, 3600),
        ({"Retry-After": SOON, "Date": DATE}, 60, 120),
    ],
)
async def test_retry_after_pauses_an_origin_for_all_and_no_other(
    manager: BackgroundFetchManager,
    start: Start,
    headers: dict[str, str],
    least: int,
    most: int,
) -> None:
    """Faults 58: in seconds or as a date, and capped."""
    first, second = await start(), await start()
    async with Crowd((429, headers)) as origin, Crowd() as other:
        await fetch(manager, first, "a", origin.urls("a", 1))
        urls = [*origin.urls("b", 200), *other.urls("c", 2)]
        waiting = await fetch(manager, second, "b", urls)
        seen = await look(manager, origin)
        keys = FetchKeys(SCOPE, waiting.uid)
        late = await manager.connection.ask(
            "ZCOUNT", keys.pool, seen.now + 1000 * least, "+inf"
        )
        [record, *_] = await waiting.match_all()
        looked = await manager.reader.look(keys, 0)

        assert least < seen.paused.total_seconds() <= most
        assert origin.paths == ["/a0"]
        assert other.paths == ["/c0", "/c1"]
        assert late == 200
        assert record.request.url == origin.urls("b", 1)[0]
        assert looked.state.detail == "the origin asked to wait: status 429"


@pytest.mark.parametrize("value", ["-1", "abc", "0", formatdate(0, usegmt=True)])
async def test_a_senseless_retry_after_pauses_nothing(
    manager: BackgroundFetchManager, start: Start, value: str
) -> None:
    """Faults 58."""
    engine = await start()
    async with Crowd((503, {"Retry-After": value})) as origin:
        done = await fetch(manager, engine, "a", origin.urls("a", 1))

    assert done.result is Result.SUCCESS


async def test_a_short_pause_is_waited_for_by_all(
    manager: BackgroundFetchManager, start: Start
) -> None:
    first, second = await start(), await start()
    async with Crowd((503, {"Retry-After": "1"})) as origin:
        both = await asyncio.gather(
            fetch(manager, first, "a", origin.urls("a", 1)),
            fetch(manager, second, "b", origin.urls("b", 40)),
        )

    assert [registration.result for registration in both] == [Result.SUCCESS] * 2
    assert origin.began[-1] - origin.began[0] > 0.9


async def test_records_of_a_busy_origin_hold_up_no_others_of_their_lane(
    manager: BackgroundFetchManager, start: Start
) -> None:
    """More of them come first than a lane claims at once."""
    engine = await start(origin_connections=1, transfers=4)
    async with Crowd() as busy, Crowd() as free:
        busy.shut()
        urls = [*busy.urls("a", 300), *free.urls("b", 5)]
        working = asyncio.create_task(fetch(manager, engine, "x", urls))
        await busy.reached(1)
        await free.asked(5)
        held_up = len(busy.paths)
        busy.open()
        done = await working

    assert held_up == 1
    assert done.result is Result.SUCCESS


async def test_a_rate_holds_for_all_together(
    manager: BackgroundFetchManager, start: Start
) -> None:
    rate = {"origin_rate": 20.0}
    first, second = await start(**rate), await start(**rate)
    async with Crowd() as origin:
        await asyncio.gather(
            fetch(manager, first, "a", origin.urls("a", 10)),
            fetch(manager, second, "b", origin.urls("b", 10)),
        )

    assert len(origin.began) == 20
    # 20 requests take 0.95 s; each process may catch up with 0.1 s.
    assert origin.began[-1] - origin.began[0] > 0.7


async def test_the_grant_of_a_killed_process_ends(
    manager: BackgroundFetchManager, start: Start
) -> None:
    """R25."""
    dead, heir = await start(origin_connections=2), await start(origin_connections=2)
    async with Crowd() as origin:
        origin.shut()
        lost = asyncio.create_task(fetch(manager, dead, "a", origin.urls("a", 9)))
        await origin.reached(2)
        await cancel_all(dead._background)  # it says nothing any more
        working = asyncio.create_task(fetch(manager, heir, "b", origin.urls("b", 3)))
        await noted(heir, origin, lambda own: own._told > 0)
        had = len(origin.paths)
        holders = OriginKeys(origin.name).holders
        await manager.connection.ask("ZADD", holders, 1, dead._grants._origins.nonce)
        await origin.reached(4)
        await cancel_all([lost])
        origin.open()

        assert had == 2
        assert (await working).result is Result.SUCCESS


async def test_without_redis_every_origin_still_gets_one_exchange_at_a_time(
    manager: BackgroundFetchManager, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R25: no dead end."""
    from schemas.errors import Unreachable

    engine, run = await start(), Connection.run

    async def no_origins(self: Connection, name: str, *rest: object) -> object:
        if name == "origins":
            raise Unreachable("no answer about origins")
        return await run(self, name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Connection, "run", no_origins)
    async with Crowd() as origin:
        done = await fetch(manager, engine, "a", origin.urls("a", 9))

    assert done.result is Result.SUCCESS
    assert origin.most == 1


async def test_a_process_that_ends_leaves_no_grant_behind(
    manager: BackgroundFetchManager, settings: Settings
) -> None:
    engine = Engine(settings, reclaiming=False)
    await engine.start()
    async with Crowd() as origin:
        await fetch(manager, engine, "a", origin.urls("a", 3))
        held = await manager.connection.ask("ZCARD", OriginKeys(origin.name).holders)
        await engine.aclose()
        left = await manager.connection.ask("ZCARD", OriginKeys(origin.name).holders)

    assert (held, left) == (1, 0)


async def test_a_lane_without_a_slot_leaves_its_place_to_other_fetches(
    manager: BackgroundFetchManager, start: Start
) -> None:
    """A process has few lanes: one origin that is busy must not have them all."""
    lease = timedelta(seconds=2)
    engine = await start(origin_connections=1, lease=lease)
    async with Crowd() as busy:
        busy.shut()
        first = asyncio.create_task(fetch(manager, engine, "a", busy.urls("a", 1)))
        await busy.reached(1)
        second = await fetch(manager, engine, "b", busy.urls("b", 300))
        seen = await manager.reader.look(FetchKeys(SCOPE, second.uid), 299)
        busy.open()

        assert (await first).result is Result.SUCCESS
    assert seen.state.detail == "every slot with the origin is taken"
    assert busy.paths == ["/a0"]


async def test_a_lane_that_is_stopped_waits_for_no_slot(
    manager: BackgroundFetchManager, start: Start
) -> None:
    engine = await start(origin_connections=1)
    async with Crowd() as busy:
        busy.shut()
        working = asyncio.create_task(fetch(manager, engine, "a", busy.urls("a", 300)))
        await busy.reached(1)
        await engine.drain()
        stopped = await working

        keys = FetchKeys(SCOPE, stopped.uid)
        assert await manager.connection.ask("ZCARD", keys.pool) > 32
        assert busy.paths == ["/a0"]


async def test_a_record_whose_origin_is_left_alone_beyond_the_deadline_fails(
    manager: BackgroundFetchManager, start: Start
) -> None:
    engine = await start(deadline=timedelta(minutes=30))
    async with Crowd((429, {"Retry-After": "3600"})) as origin:
        first = await fetch(manager, engine, "a", origin.urls("a", 1))
        second = await fetch(manager, engine, "b", origin.urls("b", 1))

    assert first.failure_reason == "bad-status"
    assert second.failure_reason == "fetch-error"
    [record] = await second.match_all()
    await record.refresh()
    assert "the origin asked to wait: status 429" in (record.failure_reason or "")
    assert origin.paths == ["/a0"]
