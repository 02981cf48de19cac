"""What has to be true after the story: asked of Redis, origin and disk."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from schemas.errors import BackgroundFetchError
from workers.demo.catalogue import RETRY_AFTER, Catalogue, File
from workers.demo.lookout import Lookout, Watched

EXPECTED: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "season-1": ("success", ("success",)),
    "bonus": ("failure bad-status", ("fail",)),
    "episode-5": ("success", ("click", "success")),
    "live": ("failure aborted", ("abort", "click")),
}
"""How each fetch ends, and which events it has, by name."""


@dataclass(frozen=True, slots=True)
class Check:
    """One statement about the outcome."""

    what: str
    passed: bool
    found: object


@dataclass(slots=True)
class Facts:
    """What the story alone knows, because it did it."""

    refused: str = ""
    killed: str = ""
    killed_at: float = float("inf")
    successor: str = ""
    aborted: bool = False
    windows: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Copy:
    """What a producer can read of one file after the result."""

    file: File
    status: int = 0
    attempts: int = 0
    size: int = 0
    sha256: str = ""

    @property
    def arrived(self) -> bool:
        """Whether it is the file, not a word about its absence."""
        return self.status == 200

    @property
    def right(self) -> bool:
        """Whether it has the bytes that the origin has."""
        return self.arrived and self.sha256 == self.file.sha256


async def read(watched: Watched) -> list[Copy]:
    """Read all that the fetch's records show, in the order of its requests."""
    copies = []
    records = await watched.registration.match_all()
    for file, record in zip(watched.plan.files, records, strict=True):
        await record.refresh()
        try:
            response = await record.response_ready
            body = await response.read()
        except BackgroundFetchError:  # an aborted record shows nothing
            copies.append(Copy(file, attempts=record.attempts))
        else:
            digest = hashlib.sha256(body).hexdigest()
            copies.append(
                Copy(file, response.status, record.attempts, len(body), digest)
            )
    return copies


def check_fetch(watched: Watched, copies: Sequence[Copy]) -> Iterator[Check]:
    """Check result, bytes, events and acknowledgements of one fetch."""
    id, state = watched.plan.id, watched.registration.state
    expected, kinds = EXPECTED[id]
    result = f"{state.result} {state.failure_reason}".rstrip()
    yield Check(f"{id} ends as {expected}", result == expected, result)

    good = set() if expected.endswith("aborted") else set(watched.plan.good)
    right = {copy.file for copy in copies if copy.right}
    wrong = [copy.file.name for copy in copies if copy.arrived and not copy.right]
    names = sorted(file.name for file in right)
    yield Check(
        f"{id} has its {len(good)} files with the origin's sha256",
        right == good and not wrong,
        f"right: {names}, wrong: {wrong}",
    )
    events = watched.events.values()
    found = sorted(event.type.removeprefix("backgroundfetch") for event in events)
    yield Check(f"{id} has the events {kinds}", tuple(found) == kinds, found)
    yield Check(
        f"every event of {id} is acknowledged",
        all(each.acknowledged for each in events),
        [(each.event, each.status, each.attempt) for each in events],
    )


def check_library(library: Path, watched: Iterable[Watched]) -> Iterator[Check]:
    """Check what the service worker kept."""
    expected: dict[str, str] = {}
    found: dict[str, str] = {}
    for each in watched:
        if each.plan.id != "live":
            expected |= {f"{each.plan.id}/{f.name}": f.sha256 for f in each.plan.good}
    for path in library.rglob("*"):
        if path.is_file():
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path.relative_to(library))] = digest
    right = found == expected
    shown = f"{len(found)} files" if right else sorted(found.items() ^ expected.items())
    yield Check("the service worker kept every file that arrived", right, shown)


def check_log(
    log: Iterable[Mapping[str, object]], watched: Iterable[Watched]
) -> Iterator[Check]:
    """Check that the subscriber's process acknowledged each event once."""
    acked = Counter(
        str(entry.get("delivery"))
        for entry in log
        if entry.get("event") == "event_acked"
    )
    expected = Counter(
        f"{each.registration.uid}/{event.event}/{event.subscriber}"
        for each in watched
        for event in each.events.values()
    )
    yield Check(
        "the subscriber's log has one acknowledgement for each event",
        acked == expected,
        f"{acked.total()} of {expected.total()}",
    )


def check_exchanges(
    lookout: Lookout, catalogue: Catalogue, facts: Facts
) -> Iterator[Check]:
    """Check what the origin was asked for."""
    broken = lookout.asked_for(catalogue.broken.path)
    starts = [request.start for request in broken]
    tags = {request.if_range for request in broken[1:]}
    yield Check(
        "after a broken connection only the rest is asked for, by Range and If-Range",
        len(starts) > len(catalogue.broken.cut_after)
        and starts[0] < min(starts[1:])
        and tags == {catalogue.broken.etag},
        f"first bytes {starts}, If-Range {tags}",
    )
    first, *again = lookout.asked_for(catalogue.busy.path)
    delays = [round(request.at - first.at, 2) for request in again]
    yield Check(
        f"after a 503 the origin has the {RETRY_AFTER} s that it asked for",
        bool(delays) and delays[0] > RETRY_AFTER - 0.1,
        f"delays {delays}",
    )
    once = len(lookout.asked_for(catalogue.missing.path))
    yield Check("what is not there is asked for once", once == 1, f"{once} requests")

    large = lookout.asked_for(catalogue.large.path)
    after = [each for each in large if each.at > facts.killed_at]
    yield Check(
        "after the kill only the rest is asked for, by Range and If-Range",
        bool(after)
        and all(each.start > 0 for each in after)
        and {each.if_range for each in after} == {catalogue.large.etag},
        f"first bytes {[each.start for each in after]}",
    )


def check_facts(facts: Facts) -> Iterator[Check]:
    """Check what calls returned."""
    yield Check(
        "a private address is refused unless it is allowed",
        facts.refused == "ForbiddenAddress",
        facts.refused or "it was not refused",
    )
    yield Check(
        "another worker goes on with the killed one's file",
        facts.successor not in ("", facts.killed),
        f"{facts.successor!r} after {facts.killed!r}",
    )
    yield Check("abort() returns True", facts.aborted, facts.aborted)
    expected = {"live": "/download-progress", "episode-5": "/latest-podcasts"}
    found = {id: url.partition("//")[2] for id, url in facts.windows.items()}
    paths = {id: "/" + rest.partition("/")[2] for id, rest in found.items()}
    yield Check("each click opens the right window", paths == expected, facts.windows)
