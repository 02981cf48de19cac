"""What the demo fetches, and how badly its origin serves that.

Bodies are made from their names: the same bytes at every start, and stored nowhere.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from workers.demo.origin import Origin

MB = 1_000_000
MiB = 1024 * 1024
RETRY_AFTER = 1
"""Seconds that the origin asks for with its 503."""
PAGES = ("/latest-podcasts", "/download-progress")
"""What the service worker opens at a click."""


@dataclass(frozen=True, eq=False)
class File:
    """One resource, and how the origin serves it (see ``Origin.add``)."""

    path: str
    size: int
    status: int = 200
    rate: float | None = None
    cut_after: tuple[int, ...] = ()
    fail_first: tuple[tuple[int, Mapping[str, str]], ...] = ()

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @cached_property
    def body(self) -> bytes:
        """Bytes that no other name has."""
        return random.Random(self.path).randbytes(self.size)

    @cached_property
    def sha256(self) -> str:
        """The digest of the whole body."""
        return hashlib.sha256(self.body).hexdigest()

    @property
    def etag(self) -> str:
        """A strong validator, made from the bytes."""
        return f'"{self.sha256[:16]}"'


@dataclass(frozen=True, slots=True)
class Plan:
    """One background fetch of the story."""

    id: str
    title: str
    files: tuple[File, ...]
    knows_total: bool = True
    """Whether the producer says beforehand how many bytes there are."""

    @property
    def total(self) -> int:
        """What the producer gives as ``download_total``."""
        return sum(file.size for file in self.files) if self.knows_total else 0

    @property
    def good(self) -> tuple[File, ...]:
        """The files that the origin has."""
        return tuple(file for file in self.files if file.status == 200)


class Catalogue:
    """The files and fetches of the story."""

    def __init__(self, rate: int) -> None:
        """``rate`` is the origin's usual speed, in bytes a second."""
        cuts = (900_000, 700_000)
        later = ((503, {"Retry-After": str(RETRY_AFTER)}),)
        cover = File("/season-1/cover.jpg", 180_000)
        self.broken = File("/season-1/episode-1.mp3", 3 * MB, rate=rate, cut_after=cuts)
        plain = File("/season-1/episode-2.mp3", 2 * MB, rate=rate)
        self.busy = File("/season-1/notes.html", 40_000, fail_first=later)
        self.interview = File("/bonus/interview.mp3", MB, rate=rate)
        self.missing = File("/bonus/lost.mp3", 300, status=404)
        self.large = File("/episode-5.mp3", 16 * MiB, rate=rate)
        live = File("/live.mp3", 4 * MB, rate=100_000)

        season = (cover, self.broken, plain, self.busy)
        self.season = Plan("season-1", "Season 1", season)
        bonus = (self.interview, self.missing)
        self.bonus = Plan("bonus", "Bonus", bonus, knows_total=False)
        self.episode = Plan("episode-5", "Episode 5", (self.large,))
        self.stream = Plan("live", "Live", (live,), knows_total=False)
        self.plans = (self.season, self.bonus, self.episode, self.stream)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for plan in self.plans for file in plan.good)

    def stock(self, origin: Origin) -> None:
        """Put every file on the origin's shelves."""
        for plan in self.plans:
            for file in plan.files:
                origin.add(
                    file.path,
                    file.body,
                    etag=file.etag,
                    rate=file.rate,
                    cut_after=file.cut_after,
                    fail_first=file.fail_first,
                    status=file.status,
                )
        for page in PAGES:
            text = f"<!doctype html><title>demo</title><h1>{page}</h1>".encode()
            origin.add(page, text, headers={"Content-Type": "text/html"})
