"""Lanes: taking, reporting, dying, and the one script call that ends a fetch."""

from __future__ import annotations

from datetime import timedelta

import pytest

from broker.agenda import Agenda, Verdict
from broker.keys import AGENDA, RECLAIM, FetchKeys
from broker.lanes import Claim, LaneHold, Opened, RecordReport, Refusal
from broker.manager import BackgroundFetchManager
from broker.registration import BackgroundFetchRegistration
from broker.settings import Settings
from schemas.fetches import FailureReason, Result
from schemas.records import RecordResult, RecordState
from tests.integration.clock import SCOPE, Clock

SUCCESS = RecordResult.SUCCESS
URLS = [f"https://cdn.example/{n}" for n in range(3)]


def keys_of(registration: BackgroundFetchRegistration) -> FetchKeys:
    return FetchKeys(SCOPE, registration.uid)


async def take(
    manager: BackgroundFetchManager, keys: FetchKeys, want: int = 10
) -> tuple[LaneHold, tuple[Claim, ...]]:
    hold = LaneHold(manager.connection, manager.settings, keys)
    opened = await hold.take("job", want)
    assert isinstance(opened, Opened)
    return hold, opened.claims


async def events(manager: BackgroundFetchManager) -> list[bytes]:
    rows: list[tuple[bytes, dict[bytes, bytes]]] = await manager.connection.ask(
        "XRANGE", f"bgfetch:{SCOPE}:events", "-", "+"
    )
    return [fields[b"delivery"].split(b"/")[1] for _, fields in rows]


def done(*claims: Claim, result: RecordResult = SUCCESS) -> list[RecordReport]:
    return [
        RecordReport(c.index, 100, result=result, state=RecordState()) for c in claims
    ]


async def test_the_report_of_the_last_open_record_ends_the_fetch(
    manager: BackgroundFetchManager,
) -> None:
    """R14, BF-PERF-02, BF-PERF-06, BF-EVT-05."""
    registration = await manager.fetch("a", URLS)
    lane, claims = await take(manager, keys_of(registration))

    first = await lane.report(done(*claims[:2]), want=0, held=1)
    between = await events(manager)
    last = await lane.report(done(claims[2]), want=0, held=0)

    assert (first.refusal, first.open_records, between) == (None, 1, [])
    assert last.refusal is Refusal.ENDED
    assert await events(manager) == [b"backgroundfetchsuccess"]
    assert await manager.get("a") is None
    await registration.refresh()
    assert (registration.result, registration.downloaded) == (Result.SUCCESS, 300)


async def test_a_report_sent_twice_counts_once_and_publishes_once(
    manager: BackgroundFetchManager,
) -> None:
    """BF-STATE-05, R14, R18: the answer to the first was lost."""
    registration = await manager.fetch("a", URLS)
    lane, claims = await take(manager, keys_of(registration))

    await lane.report(done(*claims[:2]), want=0, held=1)
    again = await lane.report(done(*claims[:2]), want=0, held=1)
    await lane.report(done(claims[2]), want=0, held=0)
    after = await lane.report(done(claims[2]), want=0, held=0)

    assert (again.open_records, again.stale) == (1, frozenset())
    assert after.refusal is Refusal.SETTLED
    await registration.refresh()
    assert registration.downloaded == 300
    assert await events(manager) == [b"backgroundfetchsuccess"]


async def test_a_record_given_back_twice_is_not_told_to_be_anothers(
    manager: BackgroundFetchManager,
) -> None:
    """R14: a repetition under the same fence gets the first answer."""
    registration = await manager.fetch("a", URLS)
    lane, claims = await take(manager, keys_of(registration))
    back = RecordReport(claims[0].index, 10, delay=timedelta(hours=1))

    await lane.report([back], want=0, held=2)
    again = await lane.report([back], want=0, held=2)

    assert (again.refusal, again.stale) == (None, frozenset())


async def test_claims_whose_answer_was_lost_are_handed_out_again(
    manager: BackgroundFetchManager,
) -> None:
    """R14: the lane says how many it holds, the script knows how many it gave."""
    registration = await manager.fetch("a", URLS)
    lane, [first] = await take(manager, keys_of(registration), want=1)
    await lane.report([], want=2, held=1)  # suppose that this answer is lost

    again = await lane.report([], want=0, held=1)

    assert sorted(claim.index for claim in again.claims) == [0, 1, 2]
    assert first.index == 0


async def test_taking_a_lane_again_with_the_same_nonce_gives_the_same_lane(
    manager: BackgroundFetchManager,
) -> None:
    """R2, R22."""
    registration = await manager.fetch("a", URLS)
    hold = LaneHold(manager.connection, manager.settings, keys_of(registration))
    first = await hold.take("job", 2)

    again = await hold.take("job", 2)

    assert isinstance(first, Opened)
    assert isinstance(again, Opened)
    assert [c.index for c in again.claims] == [c.index for c in first.claims] == [0, 1]


async def test_a_second_job_of_a_small_fetch_finds_no_room(
    manager: BackgroundFetchManager,
) -> None:
    """R1: duplicate jobs are harmless."""
    registration = await manager.fetch("a", URLS)
    await take(manager, keys_of(registration))

    second = LaneHold(manager.connection, manager.settings, keys_of(registration))

    assert await second.take("job-2", 10) is Refusal.FULL


async def test_a_large_fetch_has_several_lanes_that_share_one_pool(
    manager: BackgroundFetchManager, settings: Settings
) -> None:
    """R1: one lane for a thousand open records."""
    registration = await manager.fetch(
        "a", (f"https://e.example/{n}" for n in range(2500))
    )
    keys = keys_of(registration)

    lanes = [await take(manager, keys, want=900) for _ in range(3)]
    full = await LaneHold(manager.connection, settings, keys).take("job", 1)

    assert full is Refusal.FULL
    taken = [claim.index for _, claims in lanes for claim in claims]
    assert sorted(taken) == list(range(2500))


async def test_a_dead_lanes_records_go_to_its_successor_with_their_state(
    manager: BackgroundFetchManager, settings: Settings, clock: Clock
) -> None:
    """R2, R15, guarantee 7."""
    registration = await manager.fetch("a", URLS)
    keys, agenda = keys_of(registration), Agenda(manager.connection, settings)
    dead, claims = await take(manager, keys)
    state = RecordState(detail="half")
    await dead.report([RecordReport(1, 50, state=state)], want=0, held=3)
    await manager.connection.redis.delete("rq:queue:bgfetch")  # its worker took the job
    await clock.age_lanes(keys, settings.lease)

    look = await agenda.look(keys)
    _, inherited = await take(manager, keys)
    late = await dead.report(done(*claims), want=0, held=0)

    assert (look.verdict, look.dead_jobs, len(look.jobs)) == (Verdict.WORK, ("job",), 1)
    assert {claim.index: claim.state for claim in inherited}[1] == state
    assert {claim.index: claim.stored for claim in inherited}[1] == 50
    assert late.refusal is Refusal.STALE
    await registration.refresh()
    assert (registration.result, registration.downloaded) == (Result.ACTIVE, 50)


async def test_nothing_is_taken_over_while_leases_could_not_be_renewed(
    manager: BackgroundFetchManager, settings: Settings, clock: Clock
) -> None:
    """R15: the first pass after a pause gives everybody one lease."""
    registration = await manager.fetch("a", URLS)
    keys, agenda = keys_of(registration), Agenda(manager.connection, settings)
    lane, _ = await take(manager, keys)
    await clock.age_lanes(keys, settings.lease)

    grace = await agenda.grace(settings.lease)
    look = await agenda.look(keys)
    alive = await lane.report([], want=0, held=3)

    assert grace == settings.lease
    assert look.dead_jobs == ()
    assert alive.refusal is None


async def test_looks_during_grace_do_not_put_the_take_over_off(
    manager: BackgroundFetchManager, settings: Settings, clock: Clock
) -> None:
    """R15, guarantee 7: the next look is when grace ends, however many there were."""
    registration = await manager.fetch("a", URLS)
    keys, agenda = keys_of(registration), Agenda(manager.connection, settings)
    await take(manager, keys, want=1)
    await clock.age_lanes(keys, settings.lease * 2)
    await agenda.grace(settings.lease)

    for _ in range(5):
        await agenda.look(keys)

    next_look = await manager.connection.ask("ZSCORE", AGENDA, keys.member)
    grace = await manager.connection.ask("HGET", RECLAIM, "grace_until")
    assert next_look == float(grace)


async def test_abort_ends_a_fetch_that_no_worker_has_seen(
    manager: BackgroundFetchManager,
) -> None:
    """R13, guarantee 5, BF-ABORT-02 to -04, BF-ABORT-08."""
    registration = await manager.fetch("a", URLS)

    assert await registration.abort() is True
    assert await registration.abort() is False

    assert registration.failure_reason is FailureReason.ABORTED
    assert await events(manager) == [b"backgroundfetchabort"]
    assert await manager.get_ids() == []


async def test_a_lane_hears_at_its_next_report_that_the_fetch_was_aborted(
    manager: BackgroundFetchManager,
) -> None:
    """R13: all it still writes is refused; BF-PERF-05."""
    registration = await manager.fetch("a", URLS)
    lane, claims = await take(manager, keys_of(registration))
    await registration.abort()

    answer = await lane.report(done(*claims), want=0, held=0)

    assert answer.refusal is Refusal.SETTLED
    await registration.refresh()
    assert registration.failure_reason is FailureReason.ABORTED
    assert await events(manager) == [b"backgroundfetchabort"]


@pytest.mark.parametrize(
    ("results", "reason"),
    [
        (["success", "fetch-error", "bad-status"], "fetch-error"),
        (["bad-status", "success", "fetch-error"], "bad-status"),
        (["bad-status", "fetch-error", "quota-exceeded"], "quota-exceeded"),
    ],
)
async def test_the_lowest_failed_index_gives_the_reason_but_a_quota_comes_first(
    manager: BackgroundFetchManager, results: list[str], reason: str
) -> None:
    """BF-PERF-04 as design §7 rules it; the order of settling does not matter."""
    registration = await manager.fetch("a", URLS)
    lane, claims = await take(manager, keys_of(registration))

    for claim in reversed(claims):
        result = RecordResult(results[claim.index])
        await lane.report(done(claim, result=result), want=0, held=claim.index)

    await registration.refresh()
    assert registration.failure_reason == reason
    assert await events(manager) == [b"backgroundfetchfail"]


async def test_the_download_total_ends_a_fetch_at_once(
    manager: BackgroundFetchManager,
) -> None:
    """R18, BF-PERF-03, BF-PERF-10: one lane counts, the others' results do not."""
    registration = await manager.fetch("a", URLS, download_total=150)
    lane, claims = await take(manager, keys_of(registration))
    await lane.report(done(claims[0], result=RecordResult.BAD_STATUS), want=0, held=2)

    exceeded = done(claims[1], result=RecordResult.DOWNLOAD_TOTAL_EXCEEDED)
    answer = await lane.report(exceeded, want=0, held=1)

    assert answer.refusal is Refusal.ENDED
    await registration.refresh()
    assert registration.failure_reason is FailureReason.DOWNLOAD_TOTAL_EXCEEDED


async def test_a_record_given_back_is_taken_again_when_it_is_due(
    manager: BackgroundFetchManager, clock: Clock
) -> None:
    """R25: an active fetch is due at a time, or held."""
    registration = await manager.fetch("a", URLS[:1])
    keys = keys_of(registration)
    lane, _ = await take(manager, keys)
    wait = timedelta(minutes=5)

    answer = await lane.report([RecordReport(0, 0, delay=wait)], want=5, held=0)
    idle = await LaneHold(manager.connection, manager.settings, keys).take("job", 1)
    await lane.leave()
    await manager.connection.redis.zincrby(keys.pool, -300_000, "0")
    _, claims = await take(manager, keys)

    assert answer.claims == ()
    assert answer.next_due is not None
    assert answer.next_due > timedelta(minutes=4)
    assert idle is Refusal.FULL
    assert [claim.index for claim in claims] == [0]


async def test_a_fetch_whose_job_was_lost_gets_a_new_one_but_not_while_it_waits(
    manager: BackgroundFetchManager, settings: Settings
) -> None:
    """R1, R25: jobs are hints; the reclaimer looks into the queue first."""
    registration = await manager.fetch("a", URLS)
    keys, agenda = keys_of(registration), Agenda(manager.connection, settings)

    queued = await agenda.look(keys)
    await manager.connection.redis.delete("rq:queue:bgfetch")
    lost = await agenda.look(keys)

    assert queued.jobs == ()
    [job] = lost.jobs
    assert job.job_id == f"{registration.uid}-0-2"
