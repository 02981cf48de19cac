"""Judges a history of events, as Jepsen's checker of queues does.

Three tell what happened: publishers and consumers what they did, and Redis in which
order. An acknowledged publication has to be handled by every subscriber; whatever is
handled twice needs a cause. Everything here is a function of what was written down.

A Redis that loses its newest writes may lose what was in them, and nothing more: what
it still has is judged as ever.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tests.torture.causes import UNEXPLAINED, Attempts, Fault
from tests.torture.history import Line
from tests.torture.log import Changed, Entry, Follows, Leased, Published, Registered


@dataclass(frozen=True, slots=True)
class Story:
    """All that was written down about some events."""

    lines: Sequence[Line]
    log: Sequence[Entry]
    subscribers: Collection[str]
    readable: Collection[str]
    """Fetches whose records are still readable in the end."""
    lease: float
    """Seconds."""
    lost: Sequence[Entry] = ()
    """What the log said, and was cut off."""


@dataclass(slots=True)
class Verdict:
    """What came of it."""

    published: int = 0
    unanswered: int = 0
    """Calls without an answer: each has published an event, or not."""
    lost: int = 0
    """Publications that were acknowledged, and cut off the log."""
    handled: int = 0
    extended: int = 0
    """How often a lease was extended."""
    duplicates: Counter[str] = field(default_factory=Counter)
    """Starts of handlers beyond the first of each delivery, by cause."""
    violations: list[str] = field(default_factory=list)


def check(story: Story, verdict: Verdict) -> None:
    """Count into ``verdict``, and add whatever broke a promise."""
    published = [it.event for it in story.log if isinstance(it, Published)]
    changes, lost = _by_delivery(story.log), _by_delivery(story.lost)
    faults = [Fault.of(it) for it in story.lines if it.what == "fault"]
    deliveries: dict[str, list[Line]] = defaultdict(list)
    for line in story.lines:
        if line.what in _ABOUT_DELIVERIES:
            deliveries[line.words[0]].append(line)
    found = verdict.violations
    found += _publications(story, published, verdict)
    found += _order(story.log)
    found += _extensions(story, deliveries, verdict)
    owed = [f"{event}/{name}" for event in published for name in story.subscribers]
    for delivery in owed:
        told = sorted(deliveries.pop(delivery, []), key=lambda line: line.time)
        attempts = Attempts(changes[delivery], lost[delivery], told)
        verdict.handled += any(line.what == "done" for line in told)
        found += _settled(delivery, attempts)
        causes = attempts.causes(faults)
        verdict.duplicates.update(causes)
        if UNEXPLAINED in causes:
            found.append(f"{delivery}: handled again without a cause")
    had = {it.event for it in story.lost if isinstance(it, Published)}
    for delivery in deliveries:
        if delivery.rpartition("/")[0] not in had:
            found.append(f"{delivery}: handled, and never published")
    ended = {event.split("/")[0] for event in published if "click" not in event}
    found += [f"{uid}: records not released" for uid in ended & set(story.readable)]


def _by_delivery(log: Iterable[Entry]) -> dict[str, list[Changed]]:
    found: dict[str, list[Changed]] = defaultdict(list)
    for entry in log:
        if isinstance(entry, Changed):
            found[entry.delivery].append(entry)
    return found


_ABOUT_DELIVERIES = ("start", "done", "raised", "acked", "lost")


def _publications(
    story: Story, published: list[str], verdict: Verdict
) -> Iterator[str]:
    """What was acknowledged is there, once; nothing is there that nobody called for."""
    calls: dict[tuple[int, str], tuple[str, str]] = {}
    acknowledged = Counter[str]()
    registered = {it.uid for it in story.log if isinstance(it, Registered)}
    for line in story.lines:
        if line.what == "call":
            number, kind, about = line.words
            calls[line.process, number] = (kind, about)
        elif line.what == "answer":
            kind, about = calls.pop((line.process, line.words[0]))
            if line.words[1] != "-":
                acknowledged[f"{about}/{line.words[1]}"] += 1
        elif line.what == "gone":
            kind, about = calls.pop((line.process, line.words[0]))
            if about in registered:
                yield f"{about}: told to be gone, and it is there"
    verdict.published += acknowledged.total()
    open_calls = Counter(about for kind, about in calls.values() if kind != "fetch")
    verdict.unanswered += open_calls.total()
    times = Counter(published)
    cut_off = Counter(it.event for it in story.lost if isinstance(it, Published))
    for event, count in acknowledged.items():
        missing = max(0, count - min(1, times[event]))
        verdict.lost += min(missing, cut_off[event])
        if missing > cut_off[event]:
            yield (
                f"{event}: one event was the answer to {count} calls"
                if count > 1
                else f"{event}: acknowledged and lost"
            )
    for event, count in times.items():
        if count > 1:
            yield f"{event}: published {count} times"
        uid = event.split("/")[0]
        if event not in acknowledged:
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


def _extensions(
    story: Story, deliveries: Mapping[str, Iterable[Line]], verdict: Verdict
) -> Iterator[str]:
    """A handler may last longer than a lease, which is extended then (R20, R24)."""
    begun, extended = set[str](), 0
    for entry in story.log:
        if isinstance(entry, Changed) and entry.status == "held":
            begun.add(entry.delivery)
        elif isinstance(entry, Leased):
            # What was written with its beginning is the lease itself.
            extended += entry.delivery not in begun
            begun.discard(entry.delivery)
    verdict.extended += extended
    starts: dict[tuple[str, int], float] = {}
    longest = 0.0
    for delivery, lines in deliveries.items():
        for line in lines:
            if line.what == "start":
                starts[delivery, line.process] = line.time
            elif line.what == "done":
                began = starts.get((delivery, line.process), line.time)
                longest = max(longest, line.time - began)
    if longest > story.lease and not extended:
        yield f"no lease was extended, though a handler lasted {longest:.1f} s"


def _settled(delivery: str, attempts: Attempts) -> Iterator[str]:
    """Acknowledged exactly once, by its holder, when it had handled it (R10)."""
    changes, told = attempts.changes, attempts.told
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
    accepted = {ack.nonce, *(it.nonce for it in attempts.lost if it.status == "acked")}
    for line in told:
        if line.what in ("acked", "lost"):
            right = accepted if line.what == "acked" else {line.words[2]} - {ack.nonce}
            if line.words[2] not in right:
                process = f"attempt {line.words[1]} in process {line.process}"
                yield f"{delivery}: {process} was told {line.what!r}"
