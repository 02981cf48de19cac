"""The checker of ``torture events``: one that finds nothing proves nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.torture.log import Entry, Leased, Published
from tests.unit.stories import (
    CLICK,
    END,
    GOOD,
    LOG,
    B,
    acked,
    held,
    judged,
    line,
    waiting,
    without,
)


def test_a_history_without_a_fault_is_right() -> None:
    verdict = judged(GOOD)

    assert verdict.violations == []
    assert (verdict.published, verdict.handled, verdict.unanswered) == (2, 2, 0)
    assert not verdict.duplicates


def test_an_acknowledged_publication_that_nobody_handled_is_lost() -> None:
    silent = without(GOOD, lambda it: it.words[0] == f"{END}/s" and it.what == "done")

    [lost, early] = judged(silent).violations

    assert "lost" in lost
    assert "without its handler" in early


def test_an_acknowledged_publication_that_redis_does_not_have_is_lost() -> None:
    story = without(GOOD, lambda it: it.words[0] == f"{END}/s")
    about_end = (LOG[2], LOG[3], LOG[6], LOG[7])
    story = replace(story, log=[it for it in LOG if it not in about_end])

    assert judged(story).violations == [f"{END}: acknowledged and lost"]


def test_a_delivery_that_stays_open_is_found() -> None:
    assert judged(replace(GOOD, log=LOG[:-1])).violations == [
        f"{END}/s: acknowledged 0 times, in the end held"
    ]


def test_an_event_that_a_subscriber_never_got_is_lost_to_it() -> None:
    violations = judged(replace(GOOD, subscribers=["s", "other"])).violations

    assert len(violations) == 4  # both events: never handled, never acknowledged
    assert all("/other: " in violation for violation in violations)


@pytest.mark.parametrize(
    "log",
    [
        [*LOG, held(END, 2, "n2", B), acked(END, 2, "n2", B)],
        [*LOG, acked(END, 1, "n2")],
        [*LOG, held(END, 2, "n2", B)],
    ],
)
def test_a_delivery_that_goes_on_after_its_acknowledgement_is_found(
    log: list[Entry],
) -> None:
    assert any(
        "times, in the end" in it for it in judged(replace(GOOD, log=log)).violations
    )


def test_an_acknowledgement_by_a_former_holder_is_found() -> None:
    log = [*LOG[:-1], waiting(END), held(END, 2, "n2", B), acked(END)]

    assert judged(replace(GOOD, log=log)).violations == [
        f"{END}/s: acknowledged by one that did not hold it any more"
    ]


@pytest.mark.parametrize(
    ("what", "nonce", "right"),
    [
        ("acked", "n1", True),
        ("acked", "n0", False),
        ("lost", "n0", True),
        ("lost", "n1", False),
    ],
)
def test_what_a_process_was_told_agrees_with_redis(
    what: str, nonce: str, right: bool
) -> None:
    told = line(2.5, what, f"{END}/s", 1, nonce)

    violations = judged(replace(GOOD, lines=[*GOOD.lines, told])).violations

    assert not violations if right else "was told" in violations[0]


def test_a_start_before_that_of_the_event_before_is_found() -> None:
    """R19, in the order of Redis alone: processes may be late to say what they do."""
    log = [*LOG[:4], held(END), acked(END), held(CLICK), acked(CLICK)]

    assert judged(replace(GOOD, log=log)).violations == [
        f"{END}/s: begun before {CLICK}"
    ]


def test_an_unanswered_call_may_have_published_or_not() -> None:
    unanswered = without(GOOD, lambda it: it.what == "answer" and it.words[0] == "1")
    assert judged(unanswered).violations == []
    assert judged(unanswered).unanswered == 1

    never = line(0.5, "call", 3, "click", "f", process=9)
    assert judged(replace(GOOD, lines=[*GOOD.lines, never])).violations == []


@pytest.mark.parametrize(
    ("published", "told"), [(CLICK, "published 2 times"), ("f/other", "asked for")]
)
def test_a_publication_that_nobody_asked_for_is_found(
    published: str, told: str
) -> None:
    violations = judged(replace(GOOD, log=[*LOG, Published(published)])).violations

    assert any(told in violation for violation in violations)


def test_two_calls_with_one_event_for_an_answer_are_found() -> None:
    again = [
        line(0.4, "call", 3, "click", "f", process=9),
        line(0.5, "answer", 3, "backgroundfetchclick.1", process=9),
    ]

    [violation] = judged(replace(GOOD, lines=[*GOOD.lines, *again])).violations

    assert "2 calls" in violation


def test_a_lease_that_is_never_extended_is_found() -> None:
    """R20, R24: some handler lasts longer than one, and nobody may take it over."""
    done = line(4.0, "done", f"{END}/s", 1)
    lines = [it for it in GOOD.lines if it.time != 2.1]
    leased: list[Entry] = [*LOG[:4], held(CLICK), Leased(f"{CLICK}/s"), *LOG[5:]]
    story = replace(GOOD, lines=[*lines, done], log=leased)

    assert judged(story).violations == [
        "no lease was extended, though a handler lasted 2.0 s"
    ]
    extended = replace(story, log=[*leased[:6], Leased(f"{CLICK}/s"), *leased[6:]])
    assert judged(extended).violations == []
    assert judged(extended).extended == 1


def test_records_that_outlive_their_last_delivery_are_found() -> None:
    """Guarantee 6."""
    assert judged(replace(GOOD, readable=["f", "active"])).violations == [
        "f: records not released"
    ]
