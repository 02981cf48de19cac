"""The records of a fetch as a person or a script reads them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from broker.cli.exits import ExitCode
from broker.cli.output import printable
from broker.keys import FetchKeys
from broker.plain import record_as_plain
from schemas.errors import InvalidState
from schemas.fetches import FailureReason, FetchState, Result
from schemas.records import RecordResult
from schemas.urls import origin_of

if TYPE_CHECKING:
    from broker.manager import BackgroundFetchManager
    from broker.record import BackgroundFetchRecord
    from broker.records import RecordLook
    from broker.registration import BackgroundFetchRegistration

BATCH = 200
"""Records that are looked at at once."""


@dataclass(frozen=True, slots=True)
class RecordView:
    """How one record stands."""

    record: BackgroundFetchRecord
    look: RecordLook

    @property
    def url(self) -> str:
        """What was asked for."""
        return self.record.request.url

    @property
    def result(self) -> RecordResult:
        """The record's result; open ones of an ended fetch are aborted."""
        return self.look.outcome

    @property
    def status(self) -> int:
        """The status code, once there is one that may be seen; else 0."""
        return self.look.status

    @property
    def length(self) -> int:
        """Bytes of the whole record as far as they are known, else 0."""
        return self.look.length

    def waits_for(self, origins: Mapping[str, str]) -> str:
        """What ``origins`` says of this record's, if it is open."""
        is_open = self.result is RecordResult.OPEN
        return origins.get(origin_of(self.url), "") if is_open else ""

    def as_json(self) -> dict[str, Any]:
        """The record with names in the manner of the IDL."""
        return record_as_plain(self.record.request, self.look)


async def records_of(
    manager: BackgroundFetchManager, registration: BackgroundFetchRegistration
) -> list[RecordView]:
    """Look at every record; none are left once they are released."""
    try:
        return await look_at(manager, await registration.match_all(), registration)
    except InvalidState:
        return []


async def look_at(
    manager: BackgroundFetchManager,
    records: list[BackgroundFetchRecord],
    registration: BackgroundFetchRegistration,
) -> list[RecordView]:
    """Look at all records of a fetch, which were found before; as ``records_of``."""
    keys = FetchKeys(registration.scope, registration.uid)
    views: list[RecordView] = []
    try:
        for start in range(0, len(records), BATCH):
            batch = records[start : start + BATCH]
            looks = await asyncio.gather(
                *(manager.reader.look(keys, start + at) for at in range(len(batch)))
            )
            views += map(RecordView, batch, looks)
    except InvalidState:
        return []
    return views


def told_record(view: RecordView) -> str:
    """A record that did not succeed, in one line with the reason."""
    status = f" {view.status}" if view.status else ""
    detail = f": {view.look.state.detail}" if view.look.state.detail else ""
    return f"{printable(view.url)}: {view.result or 'open'}{status}{detail}"


def exit_code(state: FetchState) -> ExitCode:
    """What the result of a fetch means to a script."""
    if state.result is Result.SUCCESS:
        return ExitCode.OK
    if state.failure_reason is FailureReason.ABORTED:
        return ExitCode.ABORTED
    return ExitCode.NO
