"""The concept of a record: one request of a fetch and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from schemas.messages import CompactMessage, Many


class RecordResult(StrEnum):
    """The result of a record's response data (BF-STATE-05)."""

    OPEN = ""
    SUCCESS = "success"
    ABORTED = "aborted"
    BAD_STATUS = "bad-status"
    FETCH_ERROR = "fetch-error"
    QUOTA_EXCEEDED = "quota-exceeded"
    DOWNLOAD_TOTAL_EXCEEDED = "download-total-exceeded"

    @property
    def exposed(self) -> bool:
        """Whether an app may see the response (BF-STATE-06)."""
        return self in _EXPOSED


_EXPOSED = (RecordResult.OPEN, RecordResult.SUCCESS, RecordResult.BAD_STATUS)


class Digest(StrEnum):
    """What is computed of every body while it is stored."""

    SHA256 = "sha256"
    NONE = "none"
    """Only what a request's integrity or an origin demands, once a body is whole."""


@dataclass(frozen=True, slots=True)
class ResponseHead(CompactMessage):
    """Status line and headers of one answer; names as received, order kept."""

    status: int
    status_text: str = ""
    headers: Many[tuple[str, str]] = ()
    url: str = ""
    redirected: bool = False

    def get_all(self, name: str) -> list[str]:
        """Every value of a header, in order; names compare without case."""
        wanted, size = name.lower(), len(name)
        return [
            value
            for key, value in self.headers
            if len(key) == size and key.lower() == wanted
        ]

    def get(self, name: str) -> str | None:
        """The values of a header joined by ``, ``, or None (Fetch § get)."""
        values = self.get_all(name)
        return ", ".join(values) if values else None


@dataclass(frozen=True, slots=True)
class Validators(CompactMessage):
    """What tells two versions of a resource apart (R7)."""

    etag: str | None = None
    last_modified: str | None = None
    length: int | None = None
    content_encoding: str = ""
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Checkpoint(CompactMessage):
    """Bytes of a record that are on a store: which part file, how many from its start.

    ``boot`` is the host's boot id when no ``fdatasync`` preceded the checkpoint, which
    is then void after a reboot (R4, R5).
    """

    store: str
    part: str
    length: int
    boot: str | None = None


@dataclass(frozen=True, slots=True)
class RecordState(CompactMessage):
    """What a lane knows of one record; written only under the lane's fence."""

    head: ResponseHead | None = None
    validators: Validators | None = None
    checkpoint: Checkpoint | None = None
    digest: str = ""
    """sha256 of the stored bytes, hexadecimal, once the record is complete (R6).

    Empty until then, and where digests are off.
    """
    attempts: int = 0
    restarts: int = 0
    failures: int = 0
    """Attempts in a row without a new byte; decides when to give up."""
    mismatches: int = 0
    """Restarts because the bytes were not what the origin's own digest says."""
    unreached: int = 0
    """Attempts in a row that did not reach the origin; they never give up."""
    began: int | None = None
    """The fetch's age in milliseconds at the first attempt, where that has a limit."""
    detail: str = ""
    """Why the record failed or waits, for people."""
