"""Stories for the checker of ``torture events``, a good one and parts of others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tests.torture.checker import Story, Verdict, check
from tests.torture.history import Line
from tests.torture.log import Changed, Entry, Follows, Published, Registered

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
    Registered("f"),
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
GOOD = Story([*PUBLISHING, *HANDLING], LOG, ["s"], [], lease=1.0)

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
