"""Places: no scope gets far ahead of another, and nobody waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from typing_extensions import override

from broker.agenda import Agenda
from broker.connection import Connection
from broker.keys import AGENDA, FetchKeys, ScopeKeys
from broker.lanes import LaneHold, Opened, RecordReport, Refusal
from broker.manager import BackgroundFetchManager, connect
from broker.places import described, waiting
from broker.queue import QUEUES, JobQueue, queue_key
from broker.registration import BackgroundFetchRegistration
from broker.scripts import Argument
from broker.settings import Settings, milliseconds
from schemas.fetches import Priority
from schemas.records import RecordResult, RecordState
from tests.integration.clock import SCOPE, Clock
from workers.demo.origin import Origin
from workers.engine import Engine
from workers.reclaim import Reclaimer
from workers.worker import run_worker

URL = "https://cdn.example/1"
LINE = ScopeKeys(SCOPE)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Two places, so that a third fetch waits."""
    return settings.model_copy(update={"scope_lanes": 2})


class _Twice(Connection):
    """Loses the first answer to a registration, and repeats it."""

    @override
    async def run(
        self, name: str, keys: Sequence[str], arguments: Sequence[Argument] = ()
    ) -> Any:
        if name == "register":
            await super().run(name, keys, arguments)
        return await super().run(name, keys, arguments)


async def queued(
    manager: BackgroundFetchManager, priority: Priority = Priority.AUTO
) -> list[str]:
    """The uids of the jobs in RQ's queue, the next one first."""
    jobs: list[bytes] = await manager.connection.ask(
        "LRANGE", queue_key(priority), 0, -1
    )
    return [job.decode().partition("-")[0] for job in jobs]


async def in_line(manager: BackgroundFetchManager) -> list[str]:
    jobs: list[bytes] = await manager.connection.ask(
        "ZRANGE", LINE.waiting(Priority.AUTO), 0, -1
    )
    return [job.decode().partition("-")[0] for job in jobs]


async def places(manager: BackgroundFetchManager) -> int:
    count: int = await manager.connection.ask("ZCARD", LINE.places(Priority.AUTO))
    return count


async def fetch_all(
    manager: BackgroundFetchManager, *ids: str
) -> list[BackgroundFetchRegistration]:
    return [await manager.fetch(id, URL) for id in ids]


async def pop(manager: BackgroundFetchManager) -> tuple[str, str]:
    """Take the next job as a worker does; return its id and uid."""
    job: bytes = await manager.connection.ask("LPOP", queue_key("auto"))
    return job.decode(), job.decode().partition("-")[0]


async def begin(manager: BackgroundFetchManager) -> LaneHold:
    """Take the next job, and a lane of its fetch."""
    job, uid = await pop(manager)
    hold = LaneHold(manager.connection, manager.settings, FetchKeys(SCOPE, uid))
    assert isinstance(await hold.take(job, 10), Opened)
    return hold


async def end(hold: LaneHold) -> list[str]:
    """End a lane with its fetch, and return who gets its place."""
    report = RecordReport(0, 1, result=RecordResult.SUCCESS, state=RecordState())
    answer = await hold.report([report], want=0, held=0)
    assert answer.refusal is Refusal.ENDED
    return [job.decode().partition("-")[0] for job in hold.admitted]


async def age_places(manager: BackgroundFetchManager, by: timedelta) -> None:
    key = LINE.places(Priority.AUTO)
    for job in await manager.connection.ask("ZRANGE", key, 0, -1):
        await manager.connection.ask("ZINCRBY", key, -milliseconds(by), job)


async def due(manager: BackgroundFetchManager, uid: str) -> timedelta:
    at: bytes = await manager.connection.ask("ZSCORE", AGENDA, f"{SCOPE}/{uid}")
    return timedelta(milliseconds=float(at) - await manager.connection.now())


async def test_a_scope_with_many_fetches_does_not_starve_one_with_a_single_one(
    manager: BackgroundFetchManager, settings: Settings
) -> None:
    """Design §2: the single one is behind as many jobs as the other has places."""
    many = await fetch_all(manager, *"abcdefghij")
    async with connect(scope="other", settings=settings) as other:
        single = await other.fetch("a", URL)

    assert await queued(manager) == [many[0].uid, many[1].uid, single.uid]
    assert await in_line(manager) == [registration.uid for registration in many[2:]]


async def test_scopes_with_much_to_do_alternate(
    settings: Settings, origin: Origin
) -> None:
    """Design §2: who ends a lane stands behind the others again."""
    origin.add("/a", b"x")
    engine = Engine(settings, reclaiming=False)
    begun = []
    async with (
        connect(scope="s1", settings=settings) as first,
        connect(scope="s2", settings=settings) as second,
    ):
        for n in range(6):
            await first.fetch(str(n), origin.url("/a"))
        for n in range(3):
            await second.fetch(str(n), origin.url("/a"))
        await engine.start()
        while await first.connection.ask("LLEN", queue_key("auto")):
            job, uid = await pop(first)
            scope = "s1" if await first.lookup(uid) else "s2"
            begun.append(scope)
            async with asyncio.timeout(20):
                await engine.perform(scope, uid, job)
        await engine.aclose()
        assert not await first.get_ids()
        assert not await second.get_ids()

    assert begun == ["s1", "s1", "s2", "s2", "s1", "s1", "s2", "s1", "s1"]


async def test_concurrent_producers_do_not_exceed_the_limit(
    settings: Settings, manager: BackgroundFetchManager
) -> None:
    async def produce(name: str) -> None:
        async with connect(scope=SCOPE, settings=settings) as producer:
            await asyncio.gather(
                *(producer.fetch(f"{name}{n}", URL) for n in range(10))
            )

    async with asyncio.timeout(30):
        await asyncio.gather(*map(produce, "abc"))

    assert len(await queued(manager)) == await places(manager) == 2
    assert len(await in_line(manager)) == 28


async def test_a_registration_sent_twice_takes_one_place(settings: Settings) -> None:
    """R22, R23: the repetition is told the jobs that have one."""
    connection = _Twice(settings.found_redis())
    manager = BackgroundFetchManager(connection, settings, SCOPE, "https://h/")
    try:
        first, second, third = await fetch_all(manager, *"abc")

        assert await queued(manager) == [first.uid, second.uid]
        assert await in_line(manager) == [third.uid]
    finally:
        await manager.aclose()
        await connection.aclose()


async def test_the_end_of_a_lane_admits_the_oldest_that_waits(
    manager: BackgroundFetchManager,
) -> None:
    """A lane keeps its place while it works, and passes it on in its last report."""
    _, _, third, fourth = await fetch_all(manager, *"abcd")
    first, second = await begin(manager), await begin(manager)
    await first.report([], want=0, held=1)

    assert await end(first) == [third.uid]
    assert await end(second) == [fourth.uid]
    assert await places(manager) == 2
    assert await in_line(manager) == []


async def test_a_lane_that_leaves_and_a_job_that_comes_too_late_pass_their_places_on(
    manager: BackgroundFetchManager,
) -> None:
    _, second, third, fourth = await fetch_all(manager, *"abcd")
    left = await begin(manager)
    await left.report([RecordReport(0, 0, delay=timedelta(hours=1))], want=0, held=0)
    job, uid = await pop(manager)
    await second.abort()
    late = LaneHold(manager.connection, manager.settings, FetchKeys(SCOPE, uid))

    await left.leave()
    refusal = await late.take(job, 10)

    assert (uid, refusal) == (second.uid, Refusal.SETTLED)
    admitted = [*left.admitted, *late.admitted]
    jobs = await described(manager.connection, SCOPE, admitted)
    assert [(job.uid, job.id) for job in jobs] == [(third.uid, "c"), (fourth.uid, "d")]


async def test_many_places_that_end_are_passed_on_many_at_a_time(
    settings: Settings,
) -> None:
    """One enqueueing for several jobs: an eighth of the places gathers."""
    wide = settings.model_copy(update={"scope_lanes": 32})
    async with connect(scope=SCOPE, settings=wide) as manager:
        fetches = await fetch_all(manager, *map(str, range(40)))
        lanes = [await begin(manager) for _ in range(8)]

        admitted = [await end(lane) for lane in lanes]

    assert [len(jobs) for jobs in admitted] == [0, 0, 0, 4, 0, 0, 0, 4]
    assert admitted[3] == [registration.uid for registration in fetches[32:36]]


async def test_who_ended_a_lane_and_died_before_enqueueing_leaves_no_dead_end(
    manager: BackgroundFetchManager, settings: Settings
) -> None:
    """R1, R25: a fetch that was let in is looked at after a lease, as any other."""
    _, _, third = await fetch_all(manager, *"abc")
    await begin(manager)
    assert await end(await begin(manager)) == [third.uid]

    look = await Agenda(manager.connection, settings).look(FetchKeys(SCOPE, third.uid))

    assert [job.job_id for job in look.jobs] == [f"{third.uid}-0-2"]
    assert await places(manager) == 2
    assert await due(manager, third.uid) <= settings.lease


async def test_the_first_in_line_is_looked_at_within_a_lease_the_others_need_not_be(
    manager: BackgroundFetchManager, settings: Settings
) -> None:
    """R25, and an agenda that ten thousand waiting fetches do not fill."""
    _, _, third, fourth, fifth = await fetch_all(manager, *"abcde")
    agenda = Agenda(manager.connection, settings)

    assert await due(manager, third.uid) <= settings.lease
    assert await due(manager, fourth.uid) > timedelta(minutes=30)
    await third.abort()
    assert await due(manager, fourth.uid) <= settings.lease
    assert (await agenda.look(FetchKeys(SCOPE, fourth.uid))).jobs == ()
    assert await due(manager, fourth.uid) <= settings.lease
    await age_places(manager, timedelta(hours=1))  # all rights lost, nobody to tell
    look = await agenda.look(FetchKeys(SCOPE, fourth.uid))
    assert [job.uid for job in look.jobs] == [fourth.uid, fifth.uid]


async def test_a_killed_workers_lane_is_replaced_before_those_who_wait(
    manager: BackgroundFetchManager, settings: Settings, clock: Clock
) -> None:
    """Guarantee 7, R25: its place is freed with its lease, for the older fetch."""
    first, _, _ = await fetch_all(manager, *"abc")
    await begin(manager)  # and killed
    keys = FetchKeys(SCOPE, first.uid)
    await clock.age_lanes(keys, settings.lease)

    look = await Agenda(manager.connection, settings).look(keys)

    assert look.dead_jobs == (f"{first.uid}-0-1",)
    assert [job.job_id for job in look.jobs] == [f"{first.uid}-0-2"]
    assert await places(manager) == 2


async def test_a_killed_workers_place_is_free_after_a_lease_though_its_fetch_is_over(
    manager: BackgroundFetchManager, settings: Settings
) -> None:
    """R25: nobody ends the lanes of an aborted fetch; their right expires."""
    first, _, third = await fetch_all(manager, *"abc")
    await begin(manager)  # and killed
    await first.abort()
    agenda, keys = Agenda(manager.connection, settings), FetchKeys(SCOPE, third.uid)
    assert (await agenda.look(keys)).jobs == ()

    await age_places(manager, settings.lease)
    look = await agenda.look(keys)

    assert [job.uid for job in look.jobs] == [third.uid]


async def test_jobs_in_the_queue_keep_their_places_however_long_they_wait(
    manager: BackgroundFetchManager, settings: Settings
) -> None:
    """R1, R25: a look finds them in the queue, and the place goes on."""
    first, second, third = await fetch_all(manager, *"abc")
    await age_places(manager, timedelta(minutes=9, seconds=50))
    agenda = Agenda(manager.connection, settings)

    for registration in (first, second):
        await agenda.look(FetchKeys(SCOPE, registration.uid))
    await age_places(manager, settings.lease)
    look = await agenda.look(FetchKeys(SCOPE, third.uid))

    assert look.jobs == ()
    assert await queued(manager) == [first.uid, second.uid]


async def test_a_waiting_fetch_that_is_aborted_leaves_the_line(
    manager: BackgroundFetchManager,
) -> None:
    """R13: its job never comes into being."""
    _, _, third, fourth = await fetch_all(manager, *"abcd")

    assert await third.abort() is True

    assert await in_line(manager) == [fourth.uid]
    assert await end(await begin(manager)) == [fourth.uid]


async def test_lanes_of_one_fetch_wait_too_and_none_is_left_when_it_ends(
    settings: Settings,
) -> None:
    settings = settings.model_copy(update={"lane_size": 1})
    async with connect(scope=SCOPE, settings=settings) as manager:
        registration = await manager.fetch("a", [f"{URL}{n}" for n in range(5)])
        assert await queued(manager) == [registration.uid] * 2
        assert await in_line(manager) == [registration.uid] * 3
        hold = await begin(manager)

        report = [
            RecordReport(n, 1, result=RecordResult.SUCCESS, state=RecordState())
            for n in range(5)
        ]
        answer = await hold.report(report, want=0, held=0)

        assert answer.refusal is Refusal.ENDED
        assert hold.admitted == []
        assert await in_line(manager) == []


async def test_the_agenda_alone_carries_a_line_to_its_end(
    manager: BackgroundFetchManager, settings: Settings, origin: Origin
) -> None:
    """R1: every job in the queue is lost each time a lane has ended."""
    origin.add("/a", b"x")
    fetches = [await manager.fetch(str(n), origin.url("/a")) for n in range(5)]
    engine = Engine(settings, reclaiming=False)
    await engine.start()
    queue = JobQueue(manager.connection.url)
    reclaimer = Reclaimer(Agenda(manager.connection, settings), queue, None, settings)
    try:
        async with asyncio.timeout(60):
            while await manager.get_ids():
                while await queued(manager):
                    job, uid = await pop(manager)
                    await engine.perform(SCOPE, uid, job)
                    await manager.connection.ask("DEL", queue_key("auto"))
                for member in await manager.connection.ask("ZRANGE", AGENDA, 0, -1):
                    await reclaimer.look(FetchKeys(*member.decode().split("/")))
    finally:
        await queue.aclose()
        await engine.aclose()

    for registration in fetches:
        await registration.refresh()
        assert registration.result == "success"


async def test_a_higher_priority_does_not_wait_for_the_places_of_a_lower_one(
    manager: BackgroundFetchManager,
) -> None:
    """Each priority has a line of its own, as it has a queue of its own."""
    for n in range(3):
        await manager.fetch(f"low{n}", URL, priority="low")

    high = await manager.fetch("high", URL, priority="high")

    assert await queued(manager, Priority.HIGH) == [high.uid]
    assert len(await queued(manager, Priority.LOW)) == 2


async def test_a_worker_empties_the_queues_in_the_order_of_priority(
    manager: BackgroundFetchManager, settings: Settings, origin: Origin
) -> None:
    """Issue: three priorities, from ``fetch`` to the origin; lines move on in each."""
    order = [f"{priority}{n}" for priority in QUEUES for n in range(3)]
    for name in order:
        origin.add(f"/{name}", b"x")
    for name in reversed(order):
        url = origin.url(f"/{name}")
        await manager.fetch(name, url, priority=name.rstrip("012"))

    async with asyncio.timeout(60):
        await asyncio.to_thread(
            run_worker,
            manager.connection.url,
            lambda: Engine(settings, reclaiming=False),
            concurrency=1,
            burst=True,
        )

    begun = [seen.path.strip("/").rstrip("012") for seen in origin.log]
    assert begun == ["high"] * 3 + ["auto"] * 3 + ["low"] * 3


async def test_people_see_why_a_fetch_waits(
    manager: BackgroundFetchManager, settings: Settings
) -> None:
    first, second, third = await fetch_all(manager, *"abc")
    states = [registration.state for registration in (first, second, third)]

    reasons = await waiting(manager.connection, settings, states)

    assert reasons == {
        third.uid: "waits for a place: 'podcasts' has 2 of 2 lanes of priority 'auto'"
    }
