"""What explains a duplicate, or a loss, to the checker of ``torture events``."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.torture.causes import CAUSES
from tests.torture.history import Line
from tests.torture.log import Published
from tests.torture.mischief import Kind
from tests.unit.stories import (
    CLICK,
    END,
    GOOD,
    LOG,
    TWICE,
    B,
    acked,
    handled,
    held,
    judged,
    line,
    without,
)


@pytest.mark.parametrize("kind", CAUSES)
@pytest.mark.parametrize("process", [0, 1])
def test_a_duplicate_is_explained_by_what_met_its_holder(
    kind: str, process: int
) -> None:
    fault = line(2.6, "fault", kind, process, 2.05, 2.5, process=0)

    verdict = judged(replace(TWICE, lines=[*TWICE.lines, fault]))

    assert (verdict.violations, verdict.duplicates) == ([], {kind: 1})


@pytest.mark.parametrize(
    "faults",
    [
        [],
        [line(3.0, "fault", "stop", 7, 2.0, 3.0, process=0)],
        [line(1.9, "fault", "cut", 1, 0.0, 1.9, process=0)],
    ],
    ids=["no fault", "another process's", "over before it began"],
)
def test_a_duplicate_without_a_cause_is_found(faults: list[Line]) -> None:
    verdict = judged(replace(TWICE, lines=[*TWICE.lines, *faults]))

    assert verdict.violations == [f"{END}/s: handled again without a cause"]
    assert verdict.duplicates == {"unexplained": 1}


def test_a_lost_group_explains_no_duplicate() -> None:
    """R9: what is held, or has its outcome, is not handled again for that."""
    fault = line(2.6, "fault", Kind.DESTROY, 0, 2.05, 2.5, process=0)

    verdict = judged(replace(TWICE, lines=[*TWICE.lines, fault]))

    assert verdict.violations == [f"{END}/s: handled again without a cause"]


def test_a_former_holder_that_starts_late_is_a_duplicate_with_a_cause() -> None:
    """It had begun, was held up before its handler, and starts it after another."""
    late = [
        line(3.5, "start", f"{END}/s", 1),
        line(3.6, "lost", f"{END}/s", 1, "n1"),
        line(3.7, "fault", "late", 1, 1.5, 3.6, process=0),
    ]
    lines = [it for it in TWICE.lines if it.time not in (2.0, 2.1)]

    verdict = judged(replace(TWICE, lines=[*lines, *late]))

    assert (verdict.violations, verdict.duplicates) == ([], {"late": 1})


def test_what_was_cut_off_the_log_may_be_lost() -> None:
    """Guarantee 9: a Redis that loses what it has acknowledged is not ours."""
    silent = without(GOOD, lambda it: it.words[0] == f"{END}/s")
    about_end = (LOG[2], LOG[3], LOG[6], LOG[7])
    story = replace(silent, log=[it for it in LOG if it not in about_end])

    verdict = judged(replace(story, lost=about_end))

    assert (verdict.violations, verdict.lost) == ([], 1)
    handled_before = replace(story, lines=GOOD.lines, lost=about_end)
    assert judged(handled_before).violations == []


def test_an_event_may_get_its_name_again_once_the_first_was_cut_off() -> None:
    again = [
        line(0.4, "call", 3, "click", "f", process=9),
        line(0.5, "answer", 3, "backgroundfetchclick.1", process=9),
    ]
    story = replace(GOOD, lines=[*GOOD.lines, *again], lost=[Published(CLICK)])

    assert judged(story).violations == []


def test_an_acknowledgement_that_was_cut_off_is_given_again() -> None:
    """The attempts begin at one again; both holders were told that they were right."""
    cut = [held(END), acked(END)]
    log = [*LOG[:6], held(END, 1, "n2", B), acked(END, 1, "n2", B)]
    lines = [
        *GOOD.lines,
        line(2.2, "acked", f"{END}/s", 1, "n1"),
        *handled(3.0, END, process=2),
        line(3.2, "acked", f"{END}/s", 1, "n2", process=2),
        line(2.9, "fault", "tail", 0, 2.5, 2.9, process=0),
    ]
    story = replace(GOOD, lines=lines, log=log, lost=cut)

    verdict = judged(story)

    assert (verdict.violations, verdict.duplicates) == ([], {"tail": 1})
    assert judged(replace(story, lost=[])).violations == [
        f"{END}/s: attempt 1 in process 1 was told 'acked'",
        f"{END}/s: handled again without a cause",
    ]


def test_what_is_told_to_be_gone_must_not_be_there() -> None:
    lines = [
        *GOOD.lines,
        line(0.4, "call", 3, "click", "f", process=9),
        line(0.5, "gone", 3, process=9),
    ]
    story = replace(GOOD, lines=lines)

    assert judged(story).violations == ["f: told to be gone, and it is there"]
    assert judged(replace(story, log=LOG[1:])).violations == []


def test_a_handler_that_raised_explains_the_next_attempt() -> None:
    raised = line(2.1, "raised", f"{END}/s", 1)
    lines = [it for it in TWICE.lines if it.time != 2.1]

    verdict = judged(replace(TWICE, lines=[*lines, raised]))

    assert (verdict.violations, verdict.duplicates) == ([], {"raised": 1})
