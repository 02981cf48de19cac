"""A lane's side of Redis: take a lane, report on its records, leave (R1, R2, R14)."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from broker.connection import Connection
from broker.context import context
from broker.keys import FetchKeys
from broker.places import places
from broker.policies import POLICY
from broker.processes import host_name
from broker.settings import Settings, milliseconds
from schemas.fetches import FetchState
from schemas.policies import ScopePolicy
from schemas.records import RecordResult, RecordState
from schemas.requests import Request

_UNTOUCHED = RecordState()


class Refusal(StrEnum):
    """Why there is no lane, or no longer one."""

    GONE = "gone"
    SETTLED = "settled"
    PAUSED = "paused"
    FULL = "full"
    IDLE = "idle"
    STALE = "stale"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Claim:
    """One record that the lane may work on."""

    index: int
    request: Request
    state: RecordState
    stored: int
    """Bytes of this record that the fetch's sum holds now."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A lane that was taken: the fetch, its age by Redis's clock, the first records.

    Time in which the fetch was paused, or its window closed, is no part of its age.
    """

    state: FetchState
    age: timedelta
    claims: tuple[Claim, ...]
    policy: ScopePolicy
    """That of the scope when the fetch was registered."""
    granted: int
    """Bytes that all responses of the fetch may have for now; -1 without a quota."""


@dataclass(frozen=True, slots=True)
class RecordReport:
    """How a record stands. Counts are absolute bytes of this record (R18).

    ``delay`` gives the record back to the pool, to be taken again after that time.
    ``state`` is None when nothing in it changed since the last report.
    """

    index: int
    stored: int
    uploaded: int = 0
    result: RecordResult = RecordResult.OPEN
    delay: timedelta | None = None
    state: RecordState | None = None

    def arguments(self) -> tuple[str, bytes]:
        """This record as the script takes it: a line of five words, and its state."""
        delay = "-" if self.delay is None else milliseconds(self.delay)
        counts = f"{self.index} {self.stored} {self.uploaded}"
        state = b"" if self.state is None else self.state.encode()
        return f"{counts} {self.result or '-'} {delay}", state


@dataclass(frozen=True, slots=True)
class Answer:
    """What a report came to."""

    refusal: Refusal | None
    """Set when this lane is over: the fetch ended, or another holds its right."""
    open_records: int = 0
    next_due: timedelta | None = None
    """Until the next record that was given back can be taken; None without one."""
    stale: frozenset[int] = frozenset()
    """Records in the report that this lane no longer holds."""
    claims: tuple[Claim, ...] = ()
    granted: int = -1
    """Bytes that all responses of the fetch may have for now; -1 without a quota."""
    paused: bool = False
    """Whether the lane is to give its records back, and to leave within its lease."""


class LaneHold:
    """The right of one lane to work on records of one fetch, as long as it reports."""

    def __init__(
        self, connection: Connection, settings: Settings, keys: FetchKeys
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._context, self._arguments = context(keys, settings)
        self._lanes = [keys.lanes, keys.claims, keys.pool]
        self._records = [keys.states, keys.requests, keys.records]
        self._place_keys, self._place_arguments = places(keys, settings)
        self.admitted: list[bytes] = []
        """Jobs of this scope that got the places which this lane gave back (R1)."""
        self._nonce = secrets.token_hex(8)
        self._number = 0

    async def take(self, job_id: str, want: int) -> Refusal | Opened:
        """Open the lane and take its first records, or tell why there is none."""
        settings = self._settings
        reply = await self._connection.run(
            "take",
            [*self._context, *self._lanes, *self._records, *self._place_keys],
            [
                *self._arguments,
                self._nonce,
                job_id,
                milliseconds(settings.lease),
                settings.max_lanes,
                settings.lane_size,
                want,
                f"{host_name()}:{os.getpid()}",
                *self._place_arguments,
            ],
        )
        if reply[0] != b"ok":
            self.admitted += reply[1]
            return Refusal(reply[0].decode())
        self._number = reply[1]
        fields = dict(zip(reply[2][::2], reply[2][1::2], strict=True))
        state = FetchState.from_hash(fields)
        policy = ScopePolicy.read(fields.get(POLICY.encode()))
        idle = int(fields.get(b"pausedFor", 0))
        if policy.hours is not None:
            idle += policy.hours.closed(state.created_at, reply[4])
        age = timedelta(milliseconds=max(0, reply[4] - state.created_at - idle))
        return Opened(state, age, tuple(_claims(reply[3])), policy, reply[5])

    async def report(
        self,
        reports: Sequence[RecordReport],
        *,
        want: int,
        held: int,
        need: int = -1,
        keep: int = 0,
    ) -> Answer:
        """Say how records stand, keep the lease, and take up to ``want`` more.

        ``held`` counts the records that the lane holds after this report. ``need`` is
        how many bytes all responses of the fetch need now, -1 without a quota;
        ``keep`` how many of those granted before may be used ere the answer is heard.
        """
        reply = await self._connection.run(
            "report",
            [*self._context, *self._lanes, *self._records, *self._place_keys],
            [
                *self._arguments,
                self._number,
                self._nonce,
                milliseconds(self._settings.lease),
                milliseconds(self._settings.progress_interval * 0.8),
                want,
                held,
                need,
                keep,
                *(value for report in reports for value in report.arguments()),
                *self._place_arguments,
            ],
        )
        if reply[0] in (b"ended", b"settled"):
            self.admitted += reply[-1]
        if reply[0] == b"ended":
            return Answer(Refusal.ENDED, stale=_stale(reports, reply[1]))
        paused = reply[0] == b"paused"
        if reply[0] != b"ok" and not paused:
            return Answer(Refusal(reply[0].decode()))
        _, open_records, due, verdicts, rows, granted = reply
        stale = _stale(reports, verdicts)
        next_due = timedelta(milliseconds=due) if due >= 0 else None
        claims = tuple(_claims(rows))
        return Answer(None, open_records, next_due, stale, claims, granted, paused)

    async def named(self, indexes: Sequence[int]) -> frozenset[str]:
        """Return the parts that Redis names for these records.

        No other part of a refused lane's own will ever be named: its fence is void.
        Nor will one of a record that the lane no longer reports on.
        """
        if not indexes:
            return frozenset()
        rows: list[bytes | None] = await self._connection.ask(
            "HMGET", self._records[2], *indexes
        )
        states = [RecordState.decode(row) for row in rows if row]
        return frozenset(s.checkpoint.part for s in states if s.checkpoint)

    async def leave(self) -> None:
        """Give back every record that the lane still holds."""
        self.admitted += await self._connection.run(
            "leave",
            [*self._context, *self._lanes, *self._place_keys],
            [*self._arguments, self._number, self._nonce, *self._place_arguments],
        )


def _stale(
    reports: Sequence[RecordReport], verdicts: Sequence[bytes]
) -> frozenset[int]:
    return frozenset(
        report.index
        for report, verdict in zip(reports, verdicts, strict=True)
        if verdict == b"stale"
    )


def _claims(rows: Sequence[Any]) -> list[Claim]:
    return [
        Claim(
            rows[at],
            Request.decode(rows[at + 1]),
            RecordState.decode(rows[at + 2]) if rows[at + 2] else _UNTOUCHED,
            rows[at + 3],
        )
        for at in range(0, len(rows), 4)
    ]
