"""Whether an attempt that came to nothing is made again, and when (§7 retries).

| what happened                            | what follows                            |
|------------------------------------------|-----------------------------------------|
| OFFLINE: nobody was reached              | again until the deadline                |
| NETWORK: broken after connecting         | again, else ``fetch-error``             |
| 408 425 429 500 502 503 504              | again, else ``bad-status`` with its body|
| TLS, FORBIDDEN, MALFORMED, LIMIT         | ``fetch-error`` at once                 |
| any other status                         | its result, at once                     |

"Again" has limits: at most ``max_attempts`` in a row without a new byte (OFFLINE has
none), never past the deadline, and never for a method other than GET, unless the
request carries ``Idempotency-Key`` (BF-REC-11).
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas.records import RecordResult, ResponseHead
from workers.exchange import Fault
from workers.validators import parse_http_date

_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
_SECONDS = re.compile("[0-9]{1,640}", re.ASCII)  # 640: see validators
_MOST_DOUBLINGS = 32  # far beyond any cap, and no overflow


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how soon: exponential from ``base`` up to ``cap``.

    ``jitter`` is the share of each wait that is left to chance, so that records which
    failed together do not return together. ``retry_after_cap`` bounds what an origin
    may ask for.
    """

    max_attempts: int = 8
    base: timedelta = timedelta(seconds=1)
    cap: timedelta = timedelta(seconds=60)
    retry_after_cap: timedelta = timedelta(hours=1)
    jitter: float = 0.5

    def backoff(self, attempts: int, rng: random.Random) -> timedelta:
        """Return the wait after so many attempts in a row, the first being 1."""
        doublings = min(max(attempts - 1, 0), _MOST_DOUBLINGS)
        longest = min(self.cap, self.base * (1 << doublings))
        return longest * (1 - self.jitter * rng.random())


@dataclass(frozen=True, slots=True)
class Retry:
    """Make another attempt after ``delay``; the record stays open."""

    delay: timedelta
    reason: str


@dataclass(frozen=True, slots=True)
class Settle:
    """Make no further attempt: this is the record's result.

    For an answer it is what its status means, once its body is stored.
    """

    result: RecordResult


def decide(
    outcome: ResponseHead | Fault,
    *,
    method: str,
    headers: Iterable[tuple[str, str]],
    attempts_without_progress: int,
    elapsed: timedelta,
    deadline: timedelta,
    policy: RetryPolicy,
    rng: random.Random,
    now: datetime | None = None,
) -> Retry | Settle:
    """Decide on an attempt that failed or was answered.

    ``attempts_without_progress`` counts this attempt and those before it in a row that
    stored nothing: 1 after progress. Attempts that ended OFFLINE are a row of their
    own, which neither adds to the other nor is ended by it: an outage must not use up
    the attempts of the origin that comes back. ``headers`` are the request's,
    ``elapsed`` the age of the fetch that has until ``deadline``, ``now`` the time for
    a ``Retry-After`` whose answer has no ``Date``.

    Raises:
        ValueError: the fault is STOPPED: who stopped the transfer knows the result.
    """
    settled = Settle(_result_of(outcome))
    attempts = attempts_without_progress
    if not _is_passing(outcome) or not may_repeat(method, headers):
        return settled
    if outcome is not Fault.OFFLINE and attempts >= policy.max_attempts:
        return settled
    delay = policy.backoff(attempts, rng)
    if isinstance(outcome, ResponseHead):
        delay = max(delay, min(retry_after(outcome, now), policy.retry_after_cap))
    if elapsed + delay >= deadline:
        return settled
    return Retry(delay, _reason_of(outcome))


def retry_after(head: ResponseHead, now: datetime | None = None) -> timedelta:
    """Return how long an answer asks to wait; zero if it does not, or nonsensically.

    A date counts from the answer's own ``Date``, so that a wrong clock there or here
    does not matter (RFC 9110 §10.2.3).
    """
    value = head.get("Retry-After") or ""
    if _SECONDS.fullmatch(value):
        return timedelta(seconds=min(int(value), 10**9))
    until = parse_http_date(value)
    since = parse_http_date(head.get("Date")) or now
    if until is None or since is None:
        return timedelta(0)
    return max(until - since, timedelta(0))


def _is_passing(outcome: ResponseHead | Fault) -> bool:
    if isinstance(outcome, ResponseHead):
        return outcome.status in _STATUSES
    return outcome in (Fault.OFFLINE, Fault.NETWORK)


def may_repeat(method: str, headers: Iterable[tuple[str, str]]) -> bool:
    """Whether a request may reach its origin more than once (BF-REC-11)."""
    return method == "GET" or any(
        name.lower() == "idempotency-key" and value for name, value in headers
    )


def _result_of(outcome: ResponseHead | Fault) -> RecordResult:
    if isinstance(outcome, ResponseHead):
        ok = 200 <= outcome.status <= 299
        return RecordResult.SUCCESS if ok else RecordResult.BAD_STATUS
    if outcome is Fault.STOPPED:
        raise ValueError("a stopped transfer has no outcome of its own")
    return RecordResult.FETCH_ERROR


def _reason_of(outcome: ResponseHead | Fault) -> str:
    if isinstance(outcome, ResponseHead):
        return f"status {outcome.status}"
    return str(outcome)
