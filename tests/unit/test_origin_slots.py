"""The slots of one process with one origin: what it may, and what it tells (R25)."""

from __future__ import annotations

import math
from datetime import timedelta
from itertools import pairwise

import pytest

from broker.origins import Grant
from workers.origin_slots import OriginBusy, OriginSlots, Slot

LEASE = 10.0


class Waiting:
    """Wants so many slots, and takes none."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted

    def admit(self, slot: Slot) -> None:
        """See ``Waiter``."""
        raise AssertionError

    def refuse(self, busy: OriginBusy) -> None:
        """See ``Waiter``."""
        raise AssertionError


def granted(
    own: OriginSlots,
    connections: int,
    *,
    rate: float | None = None,
    pause: float = 0.0,
    contended: bool = False,
    now: float = 0.0,
) -> bool:
    """Let a report be answered; whether there has to be another one."""
    report = own.report(now, tick=False)
    grant = Grant(connections, rate, timedelta(seconds=pause), contended=contended)
    return own.heard(report, grant, now, now + LEASE)


def test_nothing_runs_before_the_first_grant() -> None:
    own = OriginSlots("http://a")

    assert own.ready_at(1e9) == math.inf


def test_turns_are_those_granted() -> None:
    own = OriginSlots("http://a")
    own.line.append(Waiting(2))
    granted(own, 2)

    for _ in range(2):
        assert own.ready_at(1.0) <= 1.0
        own.take(1.0)
    assert own.ready_at(1.0) == math.inf


def test_without_a_renewal_one_exchange_runs_at_a_time() -> None:
    own = OriginSlots("http://a")
    own.line.append(Waiting(2))
    granted(own, 2)

    assert own.limit(9.9) == 2
    assert own.limit(10.0) == 1


def test_who_never_hears_an_answer_goes_on_alone() -> None:
    own = OriginSlots("http://a")
    own.line.append(Waiting(2))
    own.unheard(own.report(5.0, tick=False))
    own.go_on_alone(5.0)

    assert own.ready_at(5.0) <= 5.0
    own.take(5.0)
    assert own.ready_at(5.0) == math.inf


def test_a_grant_that_holds_is_kept_while_nobody_answers() -> None:
    own = OriginSlots("http://a")
    own.line.append(Waiting(9))
    granted(own, 5)
    own.go_on_alone(6.0)

    assert own.limit(9.0) == 5


def test_a_report_promises_no_less_than_what_may_yet_run() -> None:
    own = OriginSlots("http://a")
    own.line.append(Waiting(1))
    granted(own, 5)

    report = own.report(1.0, tick=False)

    assert (report.held, report.wanted, report.used) == (5, 1, 0)


def test_what_is_given_back_is_not_used_before_the_answer() -> None:
    own = OriginSlots("http://a")
    own.line.append(Waiting(1))
    granted(own, 5)
    own.line.clear()

    report = own.report(1.0, tick=False)
    own.line.append(Waiting(1))

    assert (report.held, report.wanted) == (0, 0)
    assert own.ready_at(1.0) == math.inf
    assert own.hungry()


def test_more_is_asked_for_only_if_there_may_be_more() -> None:
    own = OriginSlots("http://a")
    own.line.append(Waiting(3))
    first = own.hungry()
    granted(own, 3)
    satisfied = own.hungry()
    own.line.append(Waiting(3))
    again = own.hungry()
    granted(own, 4)  # of the six: it is all that there is
    own.line.append(Waiting(3))

    assert (first, satisfied, again, own.hungry()) == (True, False, True, False)


def test_a_tick_tells_the_most_that_was_wanted_since_the_last_one() -> None:
    own = OriginSlots("http://a")
    own.line.append(Waiting(4))
    granted(own, 4)
    own.line.clear()
    own.take(0.0)

    now, then, later = (own.report(1.0, tick=tick) for tick in (False, True, True))

    assert [now.wanted, then.wanted, later.wanted] == [1, 1, 1]
    own.take(1.0)
    own.taken -= 2
    assert own.report(2.0, tick=True).wanted == 2
    assert own.report(3.0, tick=True).wanted == 0
    assert own.idle


def test_who_has_more_than_its_share_says_so_once_it_uses_less() -> None:
    own = OriginSlots("http://a")
    own.line.append(Waiting(9))
    granted(own, 3)
    for _ in range(3):
        own.take(0.0)

    at_once = granted(own, 2, contended=True)
    own.taken -= 1

    assert not at_once
    assert own.may_yield(1.0)
    assert not granted(own, 2, contended=True)
    assert not own.may_yield(1.0)


def test_a_grant_that_was_not_used_is_given_up_at_once() -> None:
    own = OriginSlots("http://a")
    own.line.append(Waiting(9))
    granted(own, 9)

    assert granted(own, 4, contended=True)
    assert not granted(own, 4, contended=True)


@pytest.mark.parametrize("rate", [4.0, 0.5])
def test_a_rate_spaces_the_beginnings(rate: float) -> None:
    own, now, began = OriginSlots("http://a"), 100.0, []
    own.line.append(Waiting(99))
    granted(own, 99, rate=rate, now=now)

    for _ in range(4):
        now = max(now, own.ready_at(now))
        own.take(now)
        began.append(now)

    gaps = [after - before for before, after in pairwise(began)]
    assert gaps[0] == pytest.approx(1 / rate - 0.1)
    assert gaps[1:] == pytest.approx([1 / rate, 1 / rate])


def test_without_a_share_of_the_rate_nothing_begins_until_the_grant_ends() -> None:
    own = OriginSlots("http://a")
    own.line.append(Waiting(9))
    granted(own, 9, rate=0.0)

    assert own.ready_at(1.0) == math.inf
    assert own.ready_at(10.0) <= 10.0
    own.take(10.0)
    assert own.ready_at(10.0) == math.inf  # one at a time
    own.taken -= 1
    assert own.ready_at(10.0) == pytest.approx(10.9)


def test_a_rest_outlives_the_share_of_the_rate() -> None:
    own = OriginSlots("http://a")
    own.line.append(Waiting(1))
    granted(own, 1, rate=0.1)
    own.take(0.0)
    own.taken -= 1
    own.line.clear()
    given_back = own.report(1.0, tick=False)
    own.heard(given_back, Grant(0, 0.0), 1.0, LEASE)
    own.line.append(Waiting(1))
    granted(own, 1, rate=0.1, now=2.0)

    assert given_back.rest.total_seconds() == pytest.approx(8.9)
    assert own.ready_at(2.0) == pytest.approx(9.9)


def test_a_pause_ends_when_the_others_say_so() -> None:
    own = OriginSlots("http://a")
    own.line.append(Waiting(9))
    granted(own, 9, pause=7.0)
    assert (own.pause(2.0), own.ready_at(2.0)) == (5.0, 7.0)

    granted(own, 9, pause=1.0, now=2.0)

    assert own.pause(2.0) == 1.0


def test_a_complaint_stops_this_process_before_anybody_answers() -> None:
    own = OriginSlots("http://a")
    own.line.append(Waiting(9))
    granted(own, 9)

    own.complain("status 429", 5.0)
    report = own.report(1.0, tick=False)

    assert own.ready_at(1.0) == 5.0
    assert (report.complaint, report.pause) == ("status 429", timedelta(seconds=4))
    assert own.report(1.0, tick=False).complaint == ""


def test_a_complaint_that_nobody_heard_is_told_again() -> None:
    own = OriginSlots("http://a")
    own.complain("status 429", 5.0)
    own.unheard(own.report(1.0, tick=False))

    again = own.report(2.0, tick=False)

    assert (again.complaint, again.pause) == ("status 429", timedelta(seconds=3))


def test_a_complaint_made_during_a_report_outlives_its_answer() -> None:
    own = OriginSlots("http://a")
    own.line.append(Waiting(9))
    report = own.report(0.0, tick=False)
    own.complain("status 429", 5.0)

    own.heard(report, Grant(9, None), 1.0, LEASE)

    assert own.pause(1.0) == 4.0
