"""What a lane may store: its limits, and what it asks Redis for under a quota (R18)."""

from __future__ import annotations

import pytest

from broker.store import Congested
from schemas.records import RecordResult
from workers.allowance import SPARE, Allowance

FULL = RecordResult.QUOTA_EXCEEDED


def stalled(allowance: Allowance, size: int, woken: list[int]) -> None:
    """Bytes that have to wait for a grant."""
    with pytest.raises(Congested) as congested:
        allowance.take(size)
    congested.value.wait(lambda: woken.append(size))


def test_without_limits_everything_is_taken_and_nothing_asked_for() -> None:
    allowance = Allowance(0, 0)

    assert allowance.take(2**60) is None
    assert allowance.claim() == (-1, 0)


def test_the_total_goes_before_the_policy_and_both_before_the_quota() -> None:
    """BF-REC-15, BF-REC-17."""
    allowance = Allowance(10, 0, 5, granted=1)

    assert allowance.take(11) == (
        RecordResult.DOWNLOAD_TOTAL_EXCEEDED,
        "more than 10 bytes",
    )
    told = "more than 5 bytes, by the policy of the scope"
    assert allowance.take(6) == (FULL, told)
    with pytest.raises(Congested):
        allowance.take(2)
    assert allowance.used == 0


def test_what_is_not_granted_is_asked_for_together_and_wakes_those_that_wait() -> None:
    asked: list[None] = []
    woken: list[int] = []
    allowance = Allowance(0, 0, granted=100, ask=lambda: asked.append(None))
    assert allowance.take(90) is None
    stalled(allowance, 20, woken)
    stalled(allowance, 30, woken)

    need, keep = allowance.claim()
    assert (need, keep, len(asked)) == (140, 100, 2)
    allowance.grant(150, need)

    assert woken == [20, 30]
    assert allowance.take(20) is None
    assert allowance.take(30) is None
    assert allowance.claim() == (140, 150)


def test_what_is_refused_fails_and_what_still_fits_goes_on() -> None:
    """BF-REC-17."""
    woken: list[int] = []
    allowance = Allowance(0, 60, granted=60)
    stalled(allowance, 50, woken)
    stalled(allowance, 30, woken)

    allowance.grant(100, allowance.claim()[0])

    told = "no room left within the quota of the scope"
    assert allowance.take(50) == (FULL, told)
    assert allowance.take(30) is None


def test_bytes_that_came_while_an_answer_was_on_its_way_ask_again() -> None:
    woken: list[int] = []
    allowance = Allowance(0, 0, granted=10)
    need, _ = allowance.claim()
    stalled(allowance, 20, woken)

    allowance.grant(10, need)

    assert woken == [20]
    stalled(allowance, 20, woken)
    assert allowance.claim() == (20, 10)


def test_far_more_than_is_needed_is_given_up_before_others_may_have_it() -> None:
    """R18: from the moment of asking, not of the answer, nothing beyond is stored."""
    allowance = Allowance(0, 5 * SPARE, granted=6 * SPARE)
    allowance.used = SPARE  # a record has begun again

    assert allowance.claim() == (SPARE, 2 * SPARE)
    with pytest.raises(Congested):
        allowance.take(SPARE + 1)
