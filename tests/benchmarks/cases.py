"""The cases of ``bench downloads``: how many files of what size, and who hashes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from tests.benchmarks.measure import MIB, Sample

FILES, FETCHES, BYTES = "files/s", "fetches/s", "MiB/s"


class Hashing(StrEnum):
    """Who computes a sha256 of every file."""

    OURS = "ours"
    BOTH = "both"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class Case:
    """So many files of so many bytes."""

    name: str
    unit: str
    count: int
    size: int
    hashing: Hashing = Hashing.OURS
    aim: Mapping[str, float] = field(default_factory=dict)
    """How many times faster than each peer the project means to be."""

    def scaled(self, factor: float) -> Case:
        """The same case with less to do."""
        if self.unit == BYTES:
            return replace(self, size=max(1, round(self.size * factor)))
        return replace(self, count=max(1, round(self.count * factor)))

    def rate(self, sample: Sample) -> float:
        """What a run of this case achieved, in its unit."""
        if self.unit == BYTES:
            return self.count * self.size / MIB / sample.wall
        return self.count / sample.wall


CASES = (
    Case("small-files", FILES, 5000, 4096, aim={"aria2": 1.3}),
    Case("large-files", BYTES, 10, 100 * MIB, Hashing.BOTH, {"aria2": 1.3}),
    Case(
        "one-large-file",
        BYTES,
        1,
        1024 * MIB,
        Hashing.BOTH,
        {"aria2": 1.3, "curl+sha256sum": 1.3},
    ),
    Case(
        "one-large-file-plain",
        BYTES,
        1,
        2048 * MIB,
        Hashing.NOBODY,
        {"aria2": 1.2, "curl": 1.2},
    ),
    Case("tiny-fetches", FETCHES, 2000, 4096, aim={"simple-worker": 3.0}),
    Case("flat", FILES, 100_000, 4096),
    Case("two-workers", FILES, 5000, 4096),
    Case("segments", BYTES, 1, 64 * MIB, aim={"one stream": 3.0}),
    Case("segments-unlimited", BYTES, 1, 512 * MIB),
)
