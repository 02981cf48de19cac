"""The concept of a background fetch: its state, outcome and progress.

Byte counters are unsigned 64-bit. Redis keeps them as decimal text, and messages carry
those above 2**53 as decimal text too; models read both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, TypeAdapter, WithJsonSchema

from schemas.errors import InvalidMessage
from schemas.messages import Many, Message
from schemas.options import ImageResource


class Result(StrEnum):
    """``BackgroundFetchResult``: how a background fetch ended (BF-IDL-08)."""

    ACTIVE = ""
    SUCCESS = "success"
    FAILURE = "failure"


class FailureReason(StrEnum):
    """``BackgroundFetchFailureReason``: why it failed (BF-IDL-09)."""

    NONE = ""
    ABORTED = "aborted"
    BAD_STATUS = "bad-status"
    FETCH_ERROR = "fetch-error"
    QUOTA_EXCEEDED = "quota-exceeded"
    DOWNLOAD_TOTAL_EXCEEDED = "download-total-exceeded"


class Priority(StrEnum):
    """Which of the three RQ queues a fetch waits in; Fetch's request priority."""

    HIGH = "high"
    AUTO = "auto"
    LOW = "low"


Bytes = Annotated[
    int,
    Field(ge=0, le=2**64 - 1),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": 2**64 - 1},
                {"type": "string", "pattern": "^[0-9]{1,20}$"},
            ]
        }
    ),
]


@dataclass(frozen=True, slots=True)
class Progress:
    """One snapshot of a fetch: consistent, possibly coalesced with earlier ones.

    Counts are bytes; ``download_total`` 0 means unknown. ``downloaded`` may fall when
    a record starts again (BF-PROG-10).
    """

    downloaded: int
    download_total: int
    uploaded: int
    upload_total: int
    result: Result
    failure_reason: FailureReason
    paused: bool = False


_ICONS = TypeAdapter(Many[ImageResource])
_IconsText = Annotated[
    str,
    WithJsonSchema({"type": "string", "contentMediaType": "application/json"}),
]


def _icons(value: Any) -> Any:
    if value == "[]":  # as nearly always
        return ()
    return _ICONS.validate_json(value) if isinstance(value, str | bytes) else value


class FetchState(Message):
    """Everything about one background fetch that its registration shows."""

    uid: str
    """Names this fetch for ever, as ids are used again."""
    id: str
    """The caller's, unique among the active fetches of the scope."""
    scope: str
    title: str = ""
    """What people see, as it was given: text of anybody's."""
    icons: Annotated[
        Many[ImageResource],
        BeforeValidator(
            _icons, json_schema_input_type=_IconsText | tuple[ImageResource, ...]
        ),
    ] = ()
    """On a channel they are JSON text."""
    download_total: Bytes = 0
    """Bytes that the caller announced; 0 means unknown."""
    downloaded: Bytes = 0
    """Bytes that are stored; falls when a record starts again (BF-PROG-10)."""
    upload_total: Bytes = 0
    """Bytes of all request bodies."""
    uploaded: Bytes = 0
    result: Result = Result.ACTIVE
    """Empty while the fetch is active."""
    failure_reason: FailureReason = FailureReason.NONE
    records_available: bool = True
    """Whether responses can still be read."""
    pausable: bool = False
    """Whether every request is a GET: only then it can be paused (BF-DISP-08)."""
    paused: bool = False
    prompt: bool = False
    """Whether it is paused until ``resume`` permits it; ``abort`` refuses it."""
    records: int = 0
    """Requests of the fetch."""
    open_records: int = 0
    """Those that have no result yet."""
    base_url: str = ""
    """What relative URLs of the scope resolve against."""
    created_at: int = 0
    """Milliseconds since the epoch, by Redis's clock."""
    settled_at: int = 0
    """The same of its end; 0 while it is active."""
    seq: int = 0
    """Which one of its scope it is: a fetch that was registered later has a higher."""
    version: int = 0
    """Rises with every change; a state with a lower version is older."""

    @classmethod
    def from_hash(cls, fields: Mapping[bytes, bytes]) -> Self:
        """Read a registration hash.

        Raises:
            InvalidMessage: it is not one.
        """
        try:
            plain = {key.decode(): value.decode() for key, value in fields.items()}
        except UnicodeDecodeError as error:
            raise InvalidMessage(f"no registration hash: {error}") from error
        return cls.from_plain(plain)

    @classmethod
    def found(cls, fields: Mapping[bytes, bytes]) -> Self | None:
        """Read a registration hash; None if there is none, or it was forgotten.

        Raises:
            InvalidMessage: it is not one.
        """
        return cls.from_hash(fields) if fields and b"removed" not in fields else None

    @property
    def progress(self) -> Progress:
        """The part of this state that changes while bytes move."""
        return Progress(
            self.downloaded,
            self.download_total,
            self.uploaded,
            self.upload_total,
            self.result,
            self.failure_reason,
            self.paused,
        )
