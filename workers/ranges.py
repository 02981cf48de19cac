"""Whether the bytes of an answer may follow those already stored (R7, BF-RANGE).

What an answer is worth, ``n`` being the bytes stored and provided that we sent
``Range: bytes=n-`` with ``If-Range``:

| answer                                 | n = 0        | n > 0                       |
|----------------------------------------|--------------|-----------------------------|
| 206 that every row accepts             | Store(0)     | Store(n)                    |
| 206 that a row refuses                 | Fail         | Restart; after three, Fail  |
| 416, `*/n`, nothing speaks against it  | Store(0)     | Complete                    |
| 416 otherwise                          | Store(0)     | Restart; after three, Store |
| any other, 200 above all               | Store(0)     | Store(0) in a new part      |

An answer to a request without ``Range`` is judged as with n = 0, in a new part where
bytes are stored. A restart is at once and from zero, without ``Range``. Where the
specification accepts a 206 on offsets alone, absence of proof is doubt here, and doubt
begins again: bytes of two versions never meet in one part.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from schemas.records import ResponseHead, Validators
from schemas.urls import origin_of
from workers.validators import (
    ContentRange,
    coding_of,
    content_length,
    is_strong,
    parse_content_range,
    parse_unsatisfied,
    proof_of,
    range_headers,
    resumable,
    validators_of,
)

__all__ = [
    "MAX_RESTARTS",
    "Complete",
    "ContentRange",
    "Ending",
    "Fail",
    "Restart",
    "Store",
    "Verdict",
    "finished",
    "judge",
    "parse_content_range",
    "range_headers",
    "resumable",
    "validators_of",
]

MAX_RESTARTS = 3
"""Restarts of one record because of answers that prove nothing."""


@dataclass(frozen=True, slots=True)
class Store:
    """Write the body from ``offset`` on.

    With ``new_part`` what is stored belongs to another answer and is given up.
    """

    offset: int
    new_part: bool = False


@dataclass(frozen=True, slots=True)
class Restart:
    """Give up what is stored and this body; ask for all of it, for a new part."""

    reason: str


@dataclass(frozen=True, slots=True)
class Complete:
    """Everything is stored already; the answer has nothing to add."""


@dataclass(frozen=True, slots=True)
class Fail:
    """The record's result is ``fetch-error``."""

    reason: str


Verdict = Store | Restart | Complete | Fail


class Ending(Enum):
    """What the normal end of a body means for its record."""

    FINISHED = auto()
    """The record is whole; its status tells success from bad-status (BF-REC-19)."""
    MORE = auto()
    """The 206 was a piece; ask for the next at once (BF-REC-20)."""
    TRUNCATED = auto()
    """Bytes are missing: a network error, to be resumed."""
    OVERLONG = auto()
    """More bytes than were announced; none of them can be trusted (BF-RANGE-06)."""


def judge(
    head: ResponseHead,
    *,
    stored: int,
    sent: Validators | None,
    range_sent: bool,
    method: str,
    restarts: int = 0,
    user_range: bool = False,
) -> Verdict:
    """Decide at an answer's head what becomes of its body, by the table above.

    ``stored`` counts the bytes of the current part, ``sent`` is the validator set that
    belongs to them, ``restarts`` how often the record began again, ``user_range``
    whether the caller's own ``Range`` was sent, whose slice is then the resource. Ask
    ``retry.decide`` first: it keeps what is stored through a 503 (§7 retries).
    """
    continues = range_sent and stored > 0
    fresh = Store(0, new_part=stored > 0 or sent is not None)
    may_restart = stored > 0 and restarts < MAX_RESTARTS
    if head.status == 206 and (continues or not user_range):
        doubt = _doubt(head, method, stored if continues else 0)
        if doubt is None and continues:
            doubt = _disagreement(head, sent)
        if doubt is not None:
            return Restart(doubt) if may_restart else Fail(doubt)
        return Store(stored) if continues else fresh
    if head.status == 416 and continues:
        if _nothing_is_missing(head, stored, sent):
            return Complete()
        if may_restart:
            return Restart(f"BF-RANGE-15: the origin has no bytes from {stored} on")
    return fresh


def finished(
    head: ResponseHead, stored: int, *, method: str = "GET", user_range: bool = False
) -> Ending:
    """Tell what the normal end of the body of ``head``, the latest answer, means.

    ``stored`` counts all bytes of the part. A body that ends with its connection and
    announced no length cannot be checked (BF-REC-25).
    """
    if method == "HEAD" or head.status in (204, 205, 304):
        return Ending.FINISHED
    piece = None
    if head.status == 206:
        piece = parse_content_range(head.get_all("Content-Range"))
    if piece is None:
        end = content_length(head)
    else:
        end = piece.size if user_range else piece.last + 1
    if end is not None and stored != end:
        return Ending.TRUNCATED if stored < end else Ending.OVERLONG
    if piece is not None and not user_range and piece.complete != stored:
        return Ending.MORE
    return Ending.FINISHED


def _doubt(head: ResponseHead, method: str, offset: int) -> str | None:
    """Return the first row that refuses a 206 for what it says of itself."""
    found = parse_content_range(head.get_all("Content-Range"))
    kind = (head.get("Content-Type") or "").lower().lstrip()
    if found is None or kind.startswith("multipart/byteranges"):
        return f"BF-RANGE-02: no single range: {head.get('Content-Range')!r}"
    length = content_length(head)
    return _first_refusal(
        (
            "BF-RANGE-05",
            found.first != offset,
            f"bytes from {found.first} on, not from {offset}",
        ),
        (
            "BF-RANGE-06",
            length not in (None, found.size),
            f"{length} bytes for a range of {found.size}",
        ),
        (
            "BF-REC-28",
            method != "GET" and found.complete != found.last + 1,
            f"a piece in answer to {method}",
        ),
    )


def _disagreement(head: ResponseHead, sent: Validators | None) -> str | None:
    """Return the first row that finds this 206 of another version, or unproved."""
    if sent is None or proof_of(sent) is None:
        return "BF-RANGE-10: nothing tells versions apart"
    etag, modified = head.get("ETag"), head.get("Last-Modified")
    # An equal strong ETag excuses a Last-Modified left out (BF-RANGE-19).
    excused = modified is None and is_strong(sent.etag)
    found = parse_content_range(head.get_all("Content-Range"))
    complete = found.complete if found else None
    return _first_refusal(
        (
            "BF-RANGE-07",
            sent.etag is not None and etag != sent.etag,
            f"ETag {etag}, not {sent.etag}",
        ),
        (
            "BF-RANGE-08",
            sent.last_modified not in (None, modified) and not excused,
            f"Last-Modified {modified}, not {sent.last_modified}",
        ),
        (
            "BF-RANGE-11",  # and BF-RANGE-12
            sent.length not in (None, complete),
            f"{complete} bytes in all, not {sent.length}",
        ),
        (
            "BF-RANGE-13",
            coding_of(head) != sent.content_encoding,
            f"coding {coding_of(head)!r}, not {sent.content_encoding!r}",
        ),
        (
            "R7",
            origin_of(head.url) != sent.origin,
            f"from {origin_of(head.url)}, not {sent.origin}",
        ),
    )


def _first_refusal(*rows: tuple[str, bool, str]) -> str | None:
    return next((f"{row}: {why}" for row, refuses, why in rows if refuses), None)


def _nothing_is_missing(
    head: ResponseHead, stored: int, sent: Validators | None
) -> bool:
    """Whether a 416 says that the resource ends where the stored bytes end.

    Most origins leave validators out of a 416. Its length alone proves something only
    where the first answer announced the same.
    """
    if sent is None or parse_unsatisfied(head.get_all("Content-Range")) != stored:
        return False
    if origin_of(head.url) != sent.origin or sent.length not in (None, stored):
        return False
    etag, modified = head.get("ETag"), head.get("Last-Modified")
    if etag not in (None, sent.etag) or modified not in (None, sent.last_modified):
        return False
    repeated = proof_of(sent) is not None and proof_of(sent) in (etag, modified)
    return repeated or sent.length == stored
