"""The checker of ``torture events``: one that finds nothing proves nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.torture.checker import Story, Verdict, check
from tests.torture.history import History, Line, Progress, read
from tests.torture.log import Changed, Entry, Follows, Published, entries
from tests.torture.mischief import Kind, plan

CLICK, END = "f/backgroundfetchclick.1", "f/backgroundfetchabort"
A, B = "host:1:aa", "host:2:bb"


def line(time: float, what: str, *words: object, process: int = 1) -> Line:
    return Line(process, time, what, tuple(map(str, words)))


def held(event: str, attempt: int = 1, nonce: str = "n1", consumer: str = A) -> Changed:
    return Changed(f"{event}/s", "held", attempt, nonce, consumer)


def acked(
    event: str, attempt: int = 1, nonce: str = "n1", consumer: str = A
) -> Changed:
    return replace(held(event, attempt, nonce, consumer), status="acked")


def waiting(event: str) -> Changed:
    return replace(held(event), status="waiting")


def handled(time: float, event: str, attempt: int = 1, process: int = 1) -> list[Line]:
    about = (f"{event}/s", attempt)
    return [
        line(time, "start", *about, process=process),
        line(time + 0.1, "done", *about, process=process),
    ]


PUBLISHING = [
    line(0.0, "call", 1, "click", "f", process=9),
    line(0.1, "answer", 1, "backgroundfetchclick.1", process=9),
    line(0.2, "call", 2, "abort", "f", process=9),
    line(0.3, "answer", 2, "backgroundfetchabort", process=9),
]
LOG: list[Entry] = [
    Published(CLICK),
    Published(END),
    Follows(END, CLICK),
    held(CLICK),
    acked(CLICK),
    held(END),
    acked(END),
]
HANDLING = [
    *handled(1.0, CLICK),
    line(1.2, "acked", f"{CLICK}/s", 1, "n1"),
    *handled(2.0, END),
]
GOOD = Story([*PUBLISHING, *HANDLING], LOG, ["s"], [])

TWICE = replace(
    GOOD,
    lines=[*GOOD.lines, *handled(3.0, END, attempt=2, process=2)],
    log=[
        *LOG[:-1],
        waiting(END),
        held(END, 2, "n2", B),
        acked(END, 2, "n2", B),
    ],
)
"""The end's first holder had handled it, and did not come to acknowledge it."""


def judged(story: Story) -> Verdict:
    verdict = Verdict()
    check(story, verdict)
    return verdict


def without(story: Story, wrong: Callable[[Line], bool]) -> Story:
    return replace(story, lines=[it for it in story.lines if not wrong(it)])


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
    about_end = (LOG[1], LOG[2], LOG[5], LOG[6])
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
    log = [*LOG[:3], held(END), acked(END), held(CLICK), acked(CLICK)]

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


@pytest.mark.parametrize("kind", Kind)
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


def test_a_handler_that_raised_explains_the_next_attempt() -> None:
    raised = line(2.1, "raised", f"{END}/s", 1)
    lines = [it for it in TWICE.lines if it.time != 2.1]

    verdict = judged(replace(TWICE, lines=[*lines, raised]))

    assert (verdict.violations, verdict.duplicates) == ([], {"raised": 1})


def test_records_that_outlive_their_last_delivery_are_found() -> None:
    """Guarantee 6."""
    assert judged(replace(GOOD, readable=["f", "active"])).violations == [
        "f: records not released"
    ]


def test_the_append_only_file_tells_what_happened_in_which_order(
    tmp_path: Path,
) -> None:
    uid = "0" * 32
    events = f"bgfetch:torture:fetch:{uid}:events"
    stream = "bgfetch:torture:events"
    commands = [
        ["SELECT", "0"],
        ["MULTI"],
        [
            "XADD",
            stream,
            "1-0",
            "delivery",
            f"{uid}/x",
            "message",
            "\r\n*\0",
            "id",
            "i",
        ],
        ["HSET", events, "x", "1-0 3 2 0 w"],
        ["EXEC"],
        ["HSET", "bgfetch:other:fetch:0:events", "x|s", "held 0 1 n h:7:a"],
        [
            "HSET",
            events,
            "x|s",
            "held 0 1 n h:7:a",
            "x|s|history",
            "?",
            "w",
            "1 3 2 0 -",
        ],
        ["HSET", events, "x|s", "acked 0 1 n h:7:a extra"],
    ]
    path = tmp_path / "log"
    with path.open("wb") as log:
        for words in commands:
            log.write(f"*{len(words)}\r\n".encode())
            for word in words:
                log.write(f"${len(word)}\r\n{word}\r\n".encode())
        log.write(b"*3\r\n$4\r\nHS")  # killed while it wrote

    found = list(entries(path, "torture"))

    delivery = f"{uid}/x/s"
    assert found == [
        Published(f"{uid}/x"),
        Follows(f"{uid}/x", f"{uid}/w"),
        Changed(delivery, "held", 1, "n", "h:7:a"),
        Changed(delivery, "acked", 1, "n", "h:7:a"),
    ]
    assert isinstance(found[-1], Changed)
    assert found[-1].process == 7


def test_what_a_process_wrote_is_read_under_its_name(tmp_path: Path) -> None:
    history = History(tmp_path / "42.history")
    history.write("start", "f/x/s", 3)

    [found] = read(tmp_path)

    assert (found.process, found.what, found.words) == (42, "start", ("f/x/s", "3"))


def test_progress_counts_what_was_written_so_far(tmp_path: Path) -> None:
    publisher, consumer = (History(tmp_path / f"{pid}.history") for pid in (1, 2))
    publisher.write("answer", 1, "-")
    publisher.write("answer", 2, "backgroundfetchabort")
    progress = Progress(tmp_path)
    progress.look()
    for what, delivery in (("start", "x"), ("start", "y"), ("done", "x")):
        consumer.write(what, f"f/{delivery}/s", 1)

    assert (progress.published, progress.handled) == (1, 0)
    progress.look()
    assert (progress.published, progress.handled, progress.begun[2]) == (1, 1, 1)


def test_a_seed_repeats_the_faults_and_has_each_kind() -> None:
    steps = plan(7, 1, 21)

    assert steps == plan(7, 1, 21) != plan(7, 2, 21)
    assert {step.kind for step in steps} == set(Kind)
    assert [step.share for step in steps] == sorted(step.share for step in steps)
