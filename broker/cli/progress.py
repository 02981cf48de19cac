"""The progress of one fetch, on stderr: bars on a terminal, else a line at times."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from broker.cli.output import amount, console, outcome, printable, say
from broker.cli.records import RecordView, look_at
from broker.cli.running import first_of
from broker.filenames import safe_name
from broker.tasks import cancel_all
from schemas.errors import InvalidState, Unreachable
from schemas.fetches import FetchState, Result

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from broker.manager import BackgroundFetchManager
    from broker.record import BackgroundFetchRecord
    from broker.registration import BackgroundFetchRegistration

MOST_BARS = 8
"""Records with a bar each; of more, only their sum is shown."""
MOST_LOOKS = 32
"""Records that are asked for their length, where nobody gave a total."""
LINE_SECONDS = 30
PATIENCE = timedelta(seconds=60)
"""How long a Redis that went away is waited for."""
LOOK_SECONDS = 2.0
"""Between looks whether it is there."""


class Follower:
    """Follows one fetch to its result, and shows how it is getting on."""

    def __init__(
        self, manager: BackgroundFetchManager, registration: BackgroundFetchRegistration
    ) -> None:
        self._manager = manager
        self._registration = registration
        self._found: list[BackgroundFetchRecord] = []

    async def follow(self) -> None:
        """Show progress until the result is there.

        Raises:
            InvalidState: the fetch is no longer retained.
            Unreachable: Redis went away, and stays away.
        """
        await while_answering(self._manager, self._show())

    async def _show(self) -> None:
        with Display(self._registration.id) as display:
            async for state in followed(self._registration):
                display.show(state, await self._records(state))

    async def _records(self, state: FetchState) -> list[RecordView]:
        """Look at the records, where they are few enough to be shown or summed up."""
        most = MOST_BARS if state.download_total else MOST_LOOKS
        if state.records > most or not state.records_available:
            return []
        with suppress(InvalidState, Unreachable):  # released in this moment, or away
            self._found = self._found or await self._registration.match_all()
        with suppress(Unreachable):
            return await look_at(self._manager, self._found, self._registration)
        return []


async def followed(
    registration: BackgroundFetchRegistration,
) -> AsyncIterator[FetchState]:
    """Yield every state until the result.

    Raises:
        InvalidState: the fetch is no longer retained.
    """
    async for _ in registration.progress():
        yield registration.state


async def while_answering(
    manager: BackgroundFetchManager, work: Coroutine[Any, Any, None]
) -> None:
    """Do ``work``, and wait for a Redis that is away, but not for more than a minute.

    Raises:
        Unreachable: Redis stays away.
    """
    given_up = asyncio.create_task(_give_up(manager))
    try:
        await first_of(work, given_up)
    finally:
        await cancel_all([given_up])


async def _give_up(manager: BackgroundFetchManager) -> None:
    away_since: float | None = None
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        try:
            await manager.connection.ping()
        except Unreachable:
            now = time.monotonic()
            if away_since is None:
                away_since = now
                say("Redis does not answer; waiting for it")
            if now - away_since > PATIENCE.total_seconds():
                raise
        else:
            away_since = None


def total_of(state: FetchState, records: Sequence[RecordView]) -> int:
    """Bytes expected in all, both ways; 0 where that is not known."""
    lengths = [record.length for record in records]
    known = state.download_total or (sum(lengths) if all(lengths) else 0)
    return known + state.upload_total if known else 0


def moved(state: FetchState) -> int:
    """Bytes sent and received (BF-DISP-13)."""
    return state.uploaded + state.downloaded


class Display:
    """Shows one fetch: bars on a terminal, else a line each 10 % or 30 seconds."""

    def __init__(self, id: str) -> None:
        self._id = printable(id)
        self._terminal = console(stderr=True)
        self._bars: Bars | None = None
        self._tasks: dict[int, TaskID] = {}
        self._standing = "active"
        self._next_percent = 10
        self._next_line = time.monotonic() + LINE_SECONDS

    def __enter__(self) -> Self:
        if self._terminal.is_terminal and not self._terminal.is_dumb_terminal:
            self._bars = self._make_bars()
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def _make_bars(self) -> Bars:
        from rich import progress

        return progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.DownloadColumn(binary_units=True),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(compact=True),
            console=self._terminal,
        )

    def show(self, state: FetchState, records: Sequence[RecordView]) -> None:
        """Take over what is known now."""
        if self._bars is not None:
            self._move_bars(self._bars, state, records)
        elif state.result is Result.ACTIVE:
            if outcome(state) != self._standing:
                self._standing = outcome(state)
                say(f"{self._id}: {self._standing}")
            self._perhaps_a_line(state, total_of(state, records))

    def _move_bars(
        self, bars: Bars, state: FetchState, records: Sequence[RecordView]
    ) -> None:
        done = state.result is Result.SUCCESS
        total = moved(state) if done else total_of(state, records)
        name = f"{self._id} ({outcome(state)})" if state.paused else self._id
        rows = [(name, moved(state), total)]
        if 1 < len(records) <= MOST_BARS:
            rows += [
                (f"  {safe_name(each.url)[:40]}", each.look.stored, each.length)
                for each in records
            ]
        for row, (name, stored, length) in enumerate(rows):
            if row not in self._tasks:
                self._tasks[row] = bars.add_task(name, total=None)
            task = self._tasks[row]
            bars.update(task, description=name, completed=stored, total=length or None)

    def _perhaps_a_line(self, state: FetchState, total: int) -> None:
        percent = 100 * moved(state) // total if total else 0
        late = time.monotonic() >= self._next_line
        if not late and percent < self._next_percent:
            return
        self._next_percent = percent // 10 * 10 + 10
        self._next_line = time.monotonic() + LINE_SECONDS
        share = f"{percent} %, " if total else ""
        settled = state.records - state.open_records
        part = f", {settled} of {state.records} records" if state.records > 1 else ""
        say(f"{self._id}: {share}{amount(moved(state), total)}{part}")
