"""The turns of one process with one origin: what it may, and what it tells (R25)."""

from __future__ import annotations

import math
from datetime import timedelta
from itertools import pairwise

import pytest

from broker.origins import Grant
from workers.turns import OriginBusy, OriginTurns, Turn

LEASE = 10.0


class Waiting:
    """Wants so many turns, and takes none."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted

    def admit(self, turn: Turn) -> None:
        """See ``Waiter``."""
        raise AssertionError

    def refuse(self, busy: OriginBusy) -> None:
        """See ``Waiter``."""
        raise AssertionError


def granted(
    turns: OriginTurns,
    connections: int,
    *,
    rate: float | None = None,
    pause: float = 0.0,
    contended: bool = False,
    now: float = 0.0,
) -> bool:
    """Let a report be answered; whether there has to be another one."""
    report = turns.report(now, tick=False)
    grant = Grant(connections, rate, timedelta(seconds=pause), contended)
    return turns.heard(report, grant, now, now + LEASE)


def test_nothing_runs_before_the_first_grant() -> None:
    turns = OriginTurns("http://a")

    assert turns.ready_at(1e9) == math.inf


def test_turns_are_those_granted() -> None:
    turns = OriginTurns("http://a")
    turns.line.append(Waiting(2))
    granted(turns, 2)

    for _ in range(2):
        assert turns.ready_at(1.0) <= 1.0
        turns.take(1.0)
    assert turns.ready_at(1.0) == math.inf


def test_without_a_renewal_one_exchange_runs_at_a_time() -> None:
    turns = OriginTurns("http://a")
    turns.line.append(Waiting(2))
    granted(turns, 2)

    assert turns.limit(9.9) == 2
    assert turns.limit(10.0) == 1


def test_who_never_hears_an_answer_goes_on_alone() -> None:
    turns = OriginTurns("http://a")
    turns.line.append(Waiting(2))
    turns.unheard(turns.report(5.0, tick=False))
    turns.go_on_alone(5.0)

    assert turns.ready_at(5.0) <= 5.0
    turns.take(5.0)
    assert turns.ready_at(5.0) == math.inf


def test_a_grant_that_holds_is_kept_while_nobody_answers() -> None:
    turns = OriginTurns("http://a")
    turns.line.append(Waiting(9))
    granted(turns, 5)
    turns.go_on_alone(6.0)

    assert turns.limit(9.0) == 5


def test_a_report_promises_no_less_than_what_may_yet_run() -> None:
    turns = OriginTurns("http://a")
    turns.line.append(Waiting(1))
    granted(turns, 5)

    report = turns.report(1.0, tick=False)

    assert (report.held, report.wanted, report.used) == (5, 1, 0)


def test_what_is_given_back_is_not_used_before_the_answer() -> None:
    turns = OriginTurns("http://a")
    turns.line.append(Waiting(1))
    granted(turns, 5)
    turns.line.clear()

    report = turns.report(1.0, tick=False)
    turns.line.append(Waiting(1))

    assert (report.held, report.wanted) == (0, 0)
    assert turns.ready_at(1.0) == math.inf
    assert turns.hungry()


def test_more_is_asked_for_only_if_there_may_be_more() -> None:
    turns = OriginTurns("http://a")
    turns.line.append(Waiting(3))
    first = turns.hungry()
    granted(turns, 3)
    satisfied = turns.hungry()
    turns.line.append(Waiting(3))
    again = turns.hungry()
    granted(turns, 4)  # of the six: it is all that there is
    turns.line.append(Waiting(3))

    assert (first, satisfied, again, turns.hungry()) == (True, False, True, False)


def test_a_tick_tells_the_most_that_was_wanted_since_the_last_one() -> None:
    turns = OriginTurns("http://a")
    turns.line.append(Waiting(4))
    granted(turns, 4)
    turns.line.clear()
    turns.take(0.0)

    now, then, later = (turns.report(1.0, tick=tick) for tick in (False, True, True))

    assert [now.wanted, then.wanted, later.wanted] == [1, 1, 1]
    turns.take(1.0)
    turns.taken -= 2
    assert turns.report(2.0, tick=True).wanted == 2
    assert turns.report(3.0, tick=True).wanted == 0
    assert turns.idle


def test_who_has_more_than_its_share_says_so_once_it_uses_less() -> None:
    turns = OriginTurns("http://a")
    turns.line.append(Waiting(9))
    granted(turns, 3)
    for _ in range(3):
        turns.take(0.0)

    at_once = granted(turns, 2, contended=True)
    turns.taken -= 1

    assert not at_once
    assert turns.may_yield(1.0)
    assert not granted(turns, 2, contended=True)
    assert not turns.may_yield(1.0)


def test_a_grant_that_was_not_used_is_given_up_at_once() -> None:
    turns = OriginTurns("http://a")
    turns.line.append(Waiting(9))
    granted(turns, 9)

    assert granted(turns, 4, contended=True)
    assert not granted(turns, 4, contended=True)


@pytest.mark.parametrize("rate", [4.0, 0.5])
def test_a_rate_spaces_the_beginnings(rate: float) -> None:
    turns, now, began = OriginTurns("http://a"), 100.0, []
    turns.line.append(Waiting(99))
    granted(turns, 99, rate=rate, now=now)

    for _ in range(4):
        now = max(now, turns.ready_at(now))
        turns.take(now)
        began.append(now)

    gaps = [after - before for before, after in pairwise(began)]
    assert gaps[0] == pytest.approx(1 / rate - 0.1)
    assert gaps[1:] == pytest.approx([1 / rate, 1 / rate])


def test_without_a_share_of_the_rate_nothing_begins_until_the_grant_ends() -> None:
    turns = OriginTurns("http://a")
    turns.line.append(Waiting(9))
    granted(turns, 9, rate=0.0)

    assert turns.ready_at(1.0) == math.inf
    assert turns.ready_at(10.0) == 10.0
    turns.take(10.0)
    assert turns.ready_at(10.0) == math.inf  # one at a time
    turns.taken -= 1
    assert turns.ready_at(10.0) == pytest.approx(11.0)


def test_a_pause_ends_when_the_others_say_so() -> None:
    turns = OriginTurns("http://a")
    turns.line.append(Waiting(9))
    granted(turns, 9, pause=7.0)
    assert (turns.pause(2.0), turns.ready_at(2.0)) == (5.0, 7.0)

    granted(turns, 9, pause=1.0, now=2.0)

    assert turns.pause(2.0) == 1.0


def test_a_complaint_stops_this_process_before_anybody_answers() -> None:
    turns = OriginTurns("http://a")
    turns.line.append(Waiting(9))
    granted(turns, 9)

    turns.complain("status 429", 5.0)
    report = turns.report(1.0, tick=False)

    assert turns.ready_at(1.0) == 5.0
    assert (report.complaint, report.pause) == ("status 429", timedelta(seconds=4))
    assert turns.report(1.0, tick=False).complaint == ""


def test_a_complaint_that_nobody_heard_is_told_again() -> None:
    turns = OriginTurns("http://a")
    turns.complain("status 429", 5.0)
    turns.unheard(turns.report(1.0, tick=False))

    again = turns.report(2.0, tick=False)

    assert (again.complaint, again.pause) == ("status 429", timedelta(seconds=3))


def test_a_complaint_made_during_a_report_outlives_its_answer() -> None:
    turns = OriginTurns("http://a")
    turns.line.append(Waiting(9))
    report = turns.report(0.0, tick=False)
    turns.complain("status 429", 5.0)

    turns.heard(report, Grant(9, None), 1.0, LEASE)

    assert turns.pause(1.0) == 4.0
