"""Judges a history of events, as Jepsen's checker of queues does.

Three tell what happened: publishers and consumers what they did, and Redis in which
order. An acknowledged publication has to be handled by every subscriber; whatever is
handled twice needs a cause. Everything here is a function of what was written down.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tests.torture.history import Line
from tests.torture.log import Changed, Entry, Follows, Published


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that was done to a process, or with process 0 to all."""

    kind: str
    process: int
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class Story:
    """All that was written down about some events."""

    lines: Sequence[Line]
    log: Sequence[Entry]
    subscribers: Collection[str]
    readable: Collection[str]
    """Fetches whose records are still readable in the end."""


@dataclass(slots=True)
class Verdict:
    """What came of it."""

    published: int = 0
    unanswered: int = 0
    """Calls without an answer: each has published an event, or not."""
    handled: int = 0
    duplicates: Counter[str] = field(default_factory=Counter)
    """Starts of handlers beyond the first of each delivery, by cause."""
    violations: list[str] = field(default_factory=list)


def check(story: Story, verdict: Verdict) -> None:
    """Count into ``verdict``, and add whatever broke a promise."""
    published = [it.event for it in story.log if isinstance(it, Published)]
    changes: dict[str, list[Changed]] = defaultdict(list)
    for entry in story.log:
        if isinstance(entry, Changed):
            changes[entry.delivery].append(entry)
    faults = [_fault(*it.words) for it in story.lines if it.what == "fault"]
    deliveries: dict[str, list[Line]] = defaultdict(list)
    for line in story.lines:
        if line.what in _ABOUT_DELIVERIES:
            deliveries[line.words[0]].append(line)
    owed = [f"{event}/{name}" for event in published for name in story.subscribers]
    found = verdict.violations
    found += _publications(story, published, verdict)
    found += _order(story.log)
    for delivery in owed:
        told = sorted(deliveries.pop(delivery, []), key=lambda line: line.time)
        verdict.handled += any(line.what == "done" for line in told)
        found += _settled(delivery, changes[delivery], told)
        causes = _causes(changes[delivery], told, faults)
        verdict.duplicates.update(causes)
        if "unexplained" in causes:
            found.append(f"{delivery}: handled again without a cause")
    found += [f"{delivery}: handled, and never published" for delivery in deliveries]
    ended = {event.split("/")[0] for event in published if "click" not in event}
    found += [f"{uid}: records not released" for uid in ended & set(story.readable)]


def _fault(kind: str, process: str, begin: str, end: str) -> Fault:
    return Fault(kind, int(process), float(begin), float(end))


_ABOUT_DELIVERIES = ("start", "done", "raised", "acked", "lost")


def _publications(
    story: Story, published: list[str], verdict: Verdict
) -> Iterator[str]:
    """What was acknowledged is there, once; nothing is there that nobody called for."""
    calls: dict[tuple[int, str], tuple[str, str]] = {}
    acknowledged: list[str] = []
    for line in story.lines:
        if line.what == "call":
            number, kind, about = line.words
            calls[line.process, number] = (kind, about)
        elif line.what == "answer":
            kind, about = calls.pop((line.process, line.words[0]))
            if line.words[1] != "-":
                acknowledged.append(f"{about}/{line.words[1]}")
    verdict.published += len(acknowledged)
    open_calls = Counter(about for kind, about in calls.values() if kind != "fetch")
    verdict.unanswered += open_calls.total()
    times = Counter(published)
    for event, count in Counter(acknowledged).items():
        if count > 1:
            yield f"{event}: one event was the answer to {count} calls"
        if event not in times:
            yield f"{event}: acknowledged and lost"
    known = set(acknowledged)
    for event, count in times.items():
        if count > 1:
            yield f"{event}: published {count} times"
        uid = event.split("/")[0]
        if event not in known:
            open_calls[uid] -= 1
            if open_calls[uid] < 0:
                yield f"{event}: published though nobody asked for it"


def _order(log: Iterable[Entry]) -> Iterator[str]:
    """Each first start comes after that of the event before (R19)."""
    predecessors: dict[str, str] = {}
    begun: set[str] = set()
    for entry in log:
        if isinstance(entry, Follows):
            predecessors[entry.event] = entry.predecessor
        elif isinstance(entry, Changed) and entry.delivery not in begun:
            begun.add(entry.delivery)
            event, _, subscriber = entry.delivery.rpartition("/")
            before = predecessors.get(event)
            if before is not None and f"{before}/{subscriber}" not in begun:
                yield f"{entry.delivery}: begun before {before}"


def _settled(
    delivery: str, changes: Sequence[Changed], told: Sequence[Line]
) -> Iterator[str]:
    """Acknowledged exactly once, by its holder, when it had handled it (R10)."""
    done = {int(line.words[1]) for line in told if line.what == "done"}
    if not done:
        yield f"{delivery}: lost: published, and never handled to the end"
    acks = [change for change in changes if change.status == "acked"]
    if len(acks) != 1 or changes[-1].status != "acked":
        last = changes[-1].status if changes else "never begun"
        yield f"{delivery}: acknowledged {len(acks)} times, in the end {last}"
        return
    [ack] = acks
    place = changes.index(ack)
    before = {(it.status, it.nonce) for it in changes[max(0, place - 1) : place]}
    if before != {("held", ack.nonce)}:
        yield f"{delivery}: acknowledged by one that did not hold it any more"
    if ack.attempt not in done:
        yield f"{delivery}: acknowledged by attempt {ack.attempt} without its handler"
    for line in told:
        if line.what in ("acked", "lost"):
            accepted = line.words[2] == ack.nonce
            if accepted != (line.what == "acked"):
                process = f"attempt {line.words[1]} in process {line.process}"
                yield f"{delivery}: {process} was told {line.what!r}"


def _causes(
    changes: Sequence[Changed], told: Sequence[Line], faults: Sequence[Fault]
) -> list[str]:
    """Why each attempt began that was not the first to start a handler."""
    starts = [line for line in told if line.what == "start"]
    return [
        _cause(before, after, changes, told, faults)
        for before, after in pairwise(starts)
    ]


def _cause(
    before: Line,
    after: Line,
    changes: Sequence[Changed],
    told: Sequence[Line],
    faults: Sequence[Fault],
) -> str:
    attempts = range(int(before.words[1]), int(after.words[1]))
    if not attempts:
        return "unexplained"  # one attempt, started twice
    if any(it.what == "raised" and int(it.words[1]) in attempts for it in told):
        return "raised"
    holders = {change.process for change in changes if change.attempt in attempts}
    met = {
        fault.kind
        for fault in faults
        if fault.process in (0, before.process, *holders)
        and fault.begin <= after.time
        and fault.end >= before.time
    }
    return next((kind for kind in CAUSES if kind in met), "unexplained")


CAUSES = ("kill", "leave", "stop", "partition", "restart", "mute", "cut", "starved")
"""What explains a duplicate; of several that met it, the first."""
