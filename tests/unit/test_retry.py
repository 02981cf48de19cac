"""Whether and when an attempt is repeated: the ruling on retries, faults 35, 58-63."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.records import RecordResult, ResponseHead
from workers.exchange import Fault
from workers.retry import Retry, RetryPolicy, Settle, decide, retry_after

EXACT = RetryPolicy(jitter=0.0)
DAY = timedelta(hours=24)
DATE = "Tue, 03 Jan 2023 03:04:05 GMT"
FETCH_ERROR = Settle(RecordResult.FETCH_ERROR)
BAD_STATUS = Settle(RecordResult.BAD_STATUS)
PASSING = [408, 425, 429, 500, 502, 503, 504]


def seconds(value: float) -> timedelta:
    return timedelta(seconds=value)


def answer(status: int, **headers: str) -> ResponseHead:
    rows = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return ResponseHead(status=status, headers=rows)


def decided(
    outcome: ResponseHead | Fault,
    *,
    attempts: int = 1,
    method: str = "GET",
    headers: tuple[tuple[str, str], ...] = (),
    elapsed: timedelta = timedelta(0),
    policy: RetryPolicy = EXACT,
    now: datetime | None = None,
) -> Retry | Settle:
    return decide(
        outcome,
        method=method,
        headers=headers,
        attempts_without_progress=attempts,
        elapsed=elapsed,
        deadline=DAY,
        policy=policy,
        rng=random.Random(7),
        now=now,
    )


def delay(decision: Retry | Settle) -> float:
    assert isinstance(decision, Retry)
    return decision.delay.total_seconds()


@pytest.mark.parametrize("status", PASSING)
def test_a_status_that_may_pass_is_tried_again_eight_times(status: int) -> None:
    """Fault 60, and BF-RANGE-17 by the ruling."""
    delays = [delay(decided(answer(status), attempts=n)) for n in range(1, 8)]

    assert delays == [1, 2, 4, 8, 16, 32, 60]
    assert decided(answer(status), attempts=8) == BAD_STATUS


def test_a_broken_connection_is_tried_again_eight_times() -> None:
    """BF-REC-21: an error after connecting."""
    delays = [delay(decided(Fault.NETWORK, attempts=n)) for n in range(1, 8)]

    assert delays == [1, 2, 4, 8, 16, 32, 60]
    assert decided(Fault.NETWORK, attempts=8) == FETCH_ERROR


def test_progress_begins_the_waits_anew() -> None:
    """1 is the first attempt without progress, however many there were before."""
    assert delay(decided(Fault.NETWORK, attempts=1, elapsed=DAY / 2)) == 1


def test_an_origin_that_is_not_reached_is_tried_until_the_deadline() -> None:
    """BF-REC-08, BF-REC-10, fault 35: quickly first, then at the capped interval."""
    assert [delay(decided(Fault.OFFLINE, attempts=n)) for n in (1, 2, 3)] == [1, 2, 4]
    assert delay(decided(Fault.OFFLINE, attempts=8)) == 60
    assert delay(decided(Fault.OFFLINE, attempts=10**9)) == 60

    late = DAY - seconds(60)
    assert decided(Fault.OFFLINE, attempts=1400, elapsed=late) == FETCH_ERROR


@pytest.mark.parametrize("outcome", [Fault.OFFLINE, Fault.NETWORK, answer(503)])
def test_no_attempt_begins_after_the_deadline(outcome: ResponseHead | Fault) -> None:
    just_before = decided(outcome, elapsed=DAY - seconds(1.5))

    assert delay(just_before) == 1
    assert isinstance(decided(outcome, elapsed=DAY - seconds(1)), Settle)
    assert isinstance(decided(outcome, elapsed=DAY * 2), Settle)


@pytest.mark.parametrize(
    "fault", [Fault.TLS, Fault.FORBIDDEN, Fault.MALFORMED, Fault.LIMIT]
)
def test_what_would_fail_again_fails_at_once(fault: Fault) -> None:
    """BF-REC-09, faults 40, 41, 61."""
    assert decided(fault) == FETCH_ERROR


def test_a_stop_of_our_own_is_no_outcome() -> None:
    with pytest.raises(ValueError, match="stopped"):
        decided(Fault.STOPPED)


@pytest.mark.parametrize("status", [301, 304, 400, 401, 403, 404, 410, 416, 451, 501])
def test_other_statuses_are_results(status: int) -> None:
    """Fault 59."""
    assert decided(answer(status, retry_after="1")) == BAD_STATUS


@pytest.mark.parametrize("status", [200, 204, 206, 299])
def test_a_good_answer_is_a_result(status: int) -> None:
    assert decided(answer(status)) == Settle(RecordResult.SUCCESS)


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "get"])
@pytest.mark.parametrize("outcome", [Fault.OFFLINE, Fault.NETWORK, answer(503)])
def test_other_methods_are_sent_once(
    method: str, outcome: ResponseHead | Fault
) -> None:
    """BF-REC-09, BF-REC-11, fault 63."""
    empty = (("Idempotency-Key", ""),)
    keyed = (("idempotency-key", '"8e03978e"'),)

    assert isinstance(decided(outcome, method=method), Settle)
    assert isinstance(decided(outcome, method=method, headers=empty), Settle)
    assert isinstance(decided(outcome, method=method, headers=keyed), Retry)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2", 2),
        ("0", 0),
        ("007", 7),
        ("Tue, 03 Jan 2023 03:04:35 GMT", 30),
        ("Tuesday, 03-Jan-23 03:04:35 GMT", 30),
        ("Tue Jan  3 03:04:35 2023", 30),
        ("Tue, 03 Jan 2023 03:04:04 GMT", 0),
        ("-1", 0),
        ("1.5", 0),
        ("abc", 0),
        ("", 0),
        ("2, 3", 0),
        ("1000000000", 10**9),
        ("9" * 600, 10**9),
        ("9" * 6000, 0),
        ("\u0663", 0),
    ],
)
def test_retry_after_is_read_in_both_forms(value: str, expected: int) -> None:
    """Fault 58, RFC 9110 §10.2.3."""
    asked = retry_after(answer(503, retry_after=value, date=DATE))

    assert asked == seconds(expected)


def test_a_date_counts_from_the_answers_date_else_from_now() -> None:
    until = "Tue, 03 Jan 2023 03:04:35 GMT"
    now = datetime(2023, 1, 3, 3, 4, 25, tzinfo=UTC)

    dated = answer(503, retry_after=until, date=DATE)
    undated = answer(503, retry_after=until)

    assert retry_after(dated, now) == seconds(30)
    assert retry_after(undated, now) == seconds(10)
    assert retry_after(undated) == seconds(0)


def test_the_longer_of_both_waits_counts_up_to_a_cap() -> None:
    """The ruling: honoured and capped."""
    assert delay(decided(answer(503, retry_after="20"))) == 20
    assert delay(decided(answer(503, retry_after="20"), attempts=7)) == 60
    assert delay(decided(answer(429, retry_after="1000000000"))) == 3600
    assert delay(decided(answer(500, retry_after="-1"))) == 1


def test_an_origin_that_asks_for_longer_than_there_is_has_failed() -> None:
    asked = answer(503, retry_after="3600")

    assert decided(asked, elapsed=DAY - timedelta(minutes=59)) == BAD_STATUS


def test_records_that_failed_together_do_not_return_together() -> None:
    rng = random.Random(7)

    waits = {RetryPolicy().backoff(4, rng).total_seconds() for _ in range(100)}

    assert len(waits) > 90
    assert 4 <= min(waits) < 5
    assert 7 < max(waits) <= 8


def test_a_retry_says_why() -> None:
    status, fault = decided(answer(429)), decided(Fault.NETWORK)

    assert isinstance(status, Retry)
    assert status.reason == "status 429"
    assert isinstance(fault, Retry)
    assert fault.reason == str(Fault.NETWORK)


values = st.one_of(
    st.text(max_size=40),
    st.integers().map(str),
    st.datetimes().map(lambda when: when.strftime("%a, %d %b %Y %H:%M:%S GMT")),
)


@given(
    outcome=st.builds(
        ResponseHead,
        status=st.integers(200, 599) | st.sampled_from(PASSING),
        headers=st.tuples(
            st.tuples(st.just("Retry-After"), values),
            st.tuples(st.just("Date"), values),
        ),
    )
    | st.sampled_from([Fault.OFFLINE, Fault.NETWORK]),
    attempts=st.integers(0, 10**6),
    elapsed=st.timedeltas(timedelta(0), DAY * 2),
)
def test_every_wait_is_within_its_bounds(
    outcome: ResponseHead | Fault, attempts: int, elapsed: timedelta
) -> None:
    policy = RetryPolicy()

    decision = decided(outcome, attempts=attempts, elapsed=elapsed, policy=policy)

    if isinstance(decision, Retry):
        assert policy.base / 2 <= decision.delay <= policy.retry_after_cap
        assert elapsed + decision.delay < DAY
        assert outcome is Fault.OFFLINE or attempts < policy.max_attempts
