"""What a response head says of the version and the extent of its bytes (R7)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from schemas.records import ResponseHead, Validators
from schemas.urls import origin_of

SETTLED_AGE = timedelta(seconds=60)
"""Age at which a Last-Modified tells versions apart (RFC 9110 §8.8.2.2)."""

# 640 digits are what Python converts whatever its own limit is set to; no file is
# that long, and int() would raise beyond it.
_DIGITS = "[0-9]{1,640}"
_CONTENT_RANGE = re.compile(
    rf"bytes ({_DIGITS})-({_DIGITS})/({_DIGITS}|\*)", re.ASCII | re.IGNORECASE
)
_UNSATISFIED = re.compile(rf"bytes \*/({_DIGITS})", re.ASCII | re.IGNORECASE)
_LENGTH = re.compile(_DIGITS, re.ASCII)
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*"')  # RFC 9110 §8.8.3
_LONGEST_DATE = len("Wednesday, 09-Sep-94 08:49:37 GMT")


@dataclass(frozen=True, slots=True)
class ContentRange:
    """The bytes that a 206 brings: positions inclusive, ``complete`` None for ``*``."""

    first: int
    last: int
    complete: int | None

    @property
    def size(self) -> int:
        """Bytes that the body must have."""
        return self.last - self.first + 1


def parse_content_range(values: Sequence[str]) -> ContentRange | None:
    """Read the values of ``Content-Range`` of a 206; None if they are not one range.

    Two headers are as bad as none, even equal ones (BF-RANGE-02, -03, -04, -20).
    """
    match = _CONTENT_RANGE.fullmatch(values[0]) if len(values) == 1 else None
    if match is None:
        return None
    first, last = int(match[1]), int(match[2])
    complete = None if match[3] == "*" else int(match[3])
    if last < first or (complete is not None and complete <= last):
        return None
    return ContentRange(first, last, complete)


def parse_unsatisfied(values: Sequence[str]) -> int | None:
    """Read the values of ``Content-Range`` of a 416: the complete length, or None."""
    match = _UNSATISFIED.fullmatch(values[0]) if len(values) == 1 else None
    return int(match[1]) if match else None


def validators_of(head: ResponseHead) -> Validators:
    """Return what can prove that later bytes are of the same version (R7).

    An ETag is kept as sent, weak ones too: a later answer must repeat it, but only a
    strong one is a proof (BF-RANGE-07). A Last-Modified is kept beside a strong ETag,
    and otherwise if it is a proof itself, a minute older than the answer. Answers
    other than 200 and 206 have no validators.
    """
    origin = origin_of(head.url)
    if head.status not in (200, 206):
        return Validators(origin=origin)
    etag, modified = head.get("ETag"), head.get("Last-Modified")
    if not (is_strong(etag) or _is_settled(modified, head.get("Date"))):
        modified = None
    return Validators(
        etag=etag,
        last_modified=modified,
        length=_complete_length(head),
        content_encoding=coding_of(head),
        origin=origin,
    )


def resumable(
    method: str, validators: Validators, request_headers: Iterable[tuple[str, str]]
) -> bool:
    """Whether a later request may ask for the rest.

    Not without a validator (R7), nor for methods other than GET (BF-REC-11), nor where
    the caller asked for a range (BF-RANGE-18). A coded answer needs a strong ETag,
    since coding the same bytes again may give others (BF-RANGE-13).
    """
    names = {name.lower() for name, _ in request_headers}
    if method != "GET" or names & {"range", "if-range"}:
        return False
    if validators.content_encoding:
        return is_strong(validators.etag)
    return proof_of(validators) is not None


def range_headers(
    offset: int, validators: Validators, end: int | None = None
) -> tuple[tuple[str, str], ...]:
    """Return the headers that ask for the bytes from ``offset`` on (BF-REC-03, -04).

    With ``end`` for those before it only. None at offset 0, and never a ``Range``
    without its ``If-Range``.
    """
    proof = proof_of(validators)
    if offset <= 0 or proof is None:
        return ()
    last = "" if end is None else end - 1
    return ("Range", f"bytes={offset}-{last}"), ("If-Range", proof)


def parse_http_date(value: str | None) -> datetime | None:
    """Read a date in one of HTTP's three forms (RFC 9110 §5.6.7), or return None."""
    if value is None or len(value) > _LONGEST_DATE:  # two dates are none
        return None
    try:
        date = parsedate_to_datetime(value)
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


def proof_of(validators: Validators) -> str | None:
    """The value for ``If-Range``: the strong ETag, else the Last-Modified (R7)."""
    return validators.etag if is_strong(validators.etag) else validators.last_modified


def is_strong(etag: str | None) -> bool:
    """Whether an ETag promises that equal tags mean equal bytes."""
    return etag is not None and _STRONG_ETAG.fullmatch(etag) is not None


def _is_settled(modified: str | None, date: str | None) -> bool:
    then, now = parse_http_date(modified), parse_http_date(date)
    return then is not None and now is not None and now - then >= SETTLED_AGE


def _complete_length(head: ResponseHead) -> int | None:
    if head.status != 206:
        return content_length(head)
    found = parse_content_range(head.get_all("Content-Range"))
    return found.complete if found else None


def content_length(head: ResponseHead) -> int | None:
    """Return how many bytes this body was announced to have, if it was."""
    values = set(head.get_all("Content-Length"))
    # A transfer coding overrides the length (RFC 9112 §6.3).
    if len(values) != 1 or head.get("Transfer-Encoding") is not None:
        return None
    value = values.pop()
    return int(value) if _LENGTH.fullmatch(value) else None


def coding_of(head: ResponseHead) -> str:
    """Return the content codings, "" for none."""
    coding = (head.get("Content-Encoding") or "").strip().lower()
    return "" if coding == "identity" else coding
