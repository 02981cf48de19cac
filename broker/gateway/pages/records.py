"""The records of a fetch, some at a time: a fetch may have a hundred thousand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from broker.connection import Connection
from broker.keys import FetchKeys
from schemas.errors import InvalidMessage
from schemas.fetches import FetchState, Result
from schemas.records import RecordResult, RecordState
from schemas.requests import Request

PAGE = 50
"""Records on a page."""


@dataclass(frozen=True, slots=True)
class RecordRow:
    """How one record stands."""

    index: int
    request: Request
    result: RecordResult
    stored: int
    state: RecordState

    @property
    def status(self) -> int | None:
        """The status of the last answer, if there was one that may be seen."""
        head = self.state.head
        return head.status if head is not None and self.result.exposed else None

    @property
    def length(self) -> int:
        """Bytes of the whole record as far as they are known, else 0."""
        if self.result is not RecordResult.OPEN:
            return self.stored
        validators, head = self.state.validators, self.state.head
        if validators is not None and validators.length:
            return validators.length
        told = (head.get("Content-Length") if head is not None else "") or ""
        return int(told) if told.isascii() and told.isdigit() else 0

    @property
    def resumes(self) -> int:
        """Exchanges after the first that went on with what was there."""
        return max(0, self.state.attempts - 1 - self.state.restarts)

    @property
    def validator(self) -> str:
        """What tells the version that is fetched from another (R7)."""
        validators, head = self.state.validators, self.state.head
        if validators is not None:
            return validators.etag or validators.last_modified or ""
        return (head.get("ETag") or "") if head is not None else ""


async def records(
    connection: Connection, fetch: FetchState, start: int
) -> Sequence[RecordRow]:
    """Return a page of records, in request order; none once they are released.

    Raises:
        Unreachable: Redis does not answer.
    """
    indexes = range(start, min(start + PAGE, fetch.records))
    if not indexes or not fetch.records_available:
        return []
    keys = FetchKeys(fetch.scope, fetch.uid)
    rows = await connection.ask_all(
        ("HMGET", key, *indexes) for key in (keys.requests, keys.states, keys.records)
    )
    ended = fetch.result is not Result.ACTIVE
    return [
        _row(index, request, place or b"", told, ended=ended)
        for index, request, place, told in zip(indexes, *rows, strict=True)
        if request is not None
    ]


def _row(
    index: int, request: bytes, place: bytes, told: bytes | None, *, ended: bool
) -> RecordRow:
    # ``<stored> <uploaded> <result> <fence>``, the result empty while it is open
    stored, _, result, *_ = [*place.decode().split(" "), "", "", ""]
    outcome = RecordResult(result)
    if outcome is RecordResult.OPEN and ended:
        outcome = RecordResult.ABORTED  # by rule (R13)
    try:
        state = RecordState.decode(told) if told else RecordState()
    except InvalidMessage as error:  # of another release
        state = RecordState(detail=str(error))
    return RecordRow(index, Request.decode(request), outcome, int(stored or 0), state)
