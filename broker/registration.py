"""``BackgroundFetchRegistration``: the handle on one background fetch."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import structlog
from typing_extensions import override

from broker.connection import Connection
from broker.keys import ABORTS, AGENDA, FetchKeys, ScopeKeys
from broker.record import BackgroundFetchRecord
from broker.records import MatchOptions, RecordReader
from broker.settings import Settings, milliseconds
from broker.settlement import settlement
from schemas.errors import InvalidState, Unreachable
from schemas.events import DeliveryOutcome, WindowMessage, completion_event
from schemas.fetches import FailureReason, FetchState, Progress, Result
from schemas.options import ImageResource, check_icons, check_title
from schemas.requests import Request

log = structlog.get_logger()

REREAD_SECONDS = 3.0
"""How long a waiter trusts pub/sub before it reads the hash again (R25)."""

ProgressListener = Callable[["ProgressEvent"], object]


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """The plain ``progress`` event: ``target`` has the new values (BF-PROG-07)."""

    target: BackgroundFetchRegistration
    type: str = "progress"


class Owner(Protocol):
    """What a registration needs of the manager that made it."""

    connection: Connection
    settings: Settings

    @property
    def reader(self) -> RecordReader:
        """Reads records and their bytes."""

    async def watching(self) -> None:
        """Return once published states reach this manager's registrations."""


def context(keys: FetchKeys, settings: Settings) -> tuple[list[str], list[str | int]]:
    """The keys and arguments with which every script about a fetch begins."""
    scope = ScopeKeys(keys.scope)
    return (
        [
            keys.fetch,
            keys.events,
            AGENDA,
            scope.scope_hash,
            scope.active,
            scope.events,
        ],
        [
            keys.member,
            scope.progress,
            milliseconds(settings.retention),
            milliseconds(settings.release_grace),
        ],
    )


class BackgroundFetchRegistration:
    """One background fetch, as every process sees it.

    Attributes are copies that change only when an update arrives; reading one does no
    I/O (BF-INST-03). Methods that ask Redis raise ``Unreachable`` when it is away.
    """

    def __init__(self, owner: Owner, state: FetchState) -> None:
        self._owner = owner
        self._state = state
        self._keys = FetchKeys(state.scope, state.uid)
        self._changed = asyncio.Event()  # replaced by a new one at every update
        self._listeners: list[ProgressListener] = []
        self.onprogress: ProgressListener | None = None
        """The handler slot for ``progress`` events."""

    @override
    def __repr__(self) -> str:
        state = self._state
        outcome = state.failure_reason or state.result or "active"
        return f"<BackgroundFetchRegistration {state.scope}/{state.id} {outcome}>"

    @property
    def id(self) -> str:
        """The caller's id, unique among the scope's active fetches."""
        return self._state.id

    @property
    def uid(self) -> str:
        """Our name for this fetch, unique for ever."""
        return self._state.uid

    @property
    def scope(self) -> str:
        """The scope that owns this fetch."""
        return self._state.scope

    @property
    def title(self) -> str:
        """The title shown to people."""
        return self._state.title

    @property
    def icons(self) -> tuple[ImageResource, ...]:
        """The icons shown to people."""
        return self._state.icons

    @property
    def upload_total(self) -> int:
        """Bytes of all request bodies."""
        return self._state.upload_total

    @property
    def uploaded(self) -> int:
        """Bytes of request bodies that were sent."""
        return self._state.uploaded

    @property
    def download_total(self) -> int:
        """Bytes that the caller expects and will not exceed; 0 means unknown."""
        return self._state.download_total

    @property
    def downloaded(self) -> int:
        """Bytes of responses that are stored now; may fall when a record restarts."""
        return self._state.downloaded

    @property
    def result(self) -> Result:
        """``""`` while active, then ``"success"`` or ``"failure"``."""
        return self._state.result

    @property
    def failure_reason(self) -> FailureReason:
        """Why the fetch failed; ``""`` unless it did."""
        return self._state.failure_reason

    @property
    def records_available(self) -> bool:
        """Whether ``match`` and ``match_all`` can be used."""
        return self._state.records_available

    @property
    def state(self) -> FetchState:
        """All of the above as one message, for ``--json`` and other processes."""
        return self._state

    def add_event_listener(self, type: str, listener: ProgressListener) -> None:
        """Call ``listener`` with each ``progress`` event; adding it twice is once."""
        if type == "progress" and listener not in self._listeners:
            self._listeners.append(listener)

    def remove_event_listener(self, type: str, listener: ProgressListener) -> None:
        """Undo ``add_event_listener``; unknown listeners are ignored."""
        if type == "progress":
            with suppress(ValueError):
                self._listeners.remove(listener)

    async def progress(self) -> AsyncIterator[Progress]:
        """Yield the current state, then every later one; end with the result.

        Snapshots may be coalesced, the last is always delivered. Survives lost
        messages and restarts of Redis.

        Raises:
            InvalidState: the fetch is no longer retained.
        """
        await self._owner.watching()
        await self.refresh()
        shown: Progress | None = None
        while True:
            current = self._state.progress
            if current != shown:
                shown = current
                yield current
            if shown.result is not Result.ACTIVE:
                return
            await self.changed(since=current)

    async def settled(
        self,
        timeout: timedelta | None = None,  # noqa: ASYNC109 - blocking code needs one
    ) -> dict[str, DeliveryOutcome]:
        """Wait until every subscriber is done with the completion event.

        Returns the outcome of each that is owed it: ``"acked"``, ``"purged"``,
        ``"expired"`` or ``"removed"``. A dead letter is no outcome: it is waited for.
        While nobody has subscribed, this waits for the first one; if the retention
        ends before, the answer is ``{"": "expired"}`` (R12); with a ``hold``, ``{}``
        when that has ended. Waits for an active fetch to end, too. Survives lost
        messages and restarts of Redis.

        Raises:
            TimeoutError: that took longer than ``timeout``.
            InvalidState: the fetch is no longer retained.
        """
        await self._owner.watching()
        await self.refresh()
        if (outcomes := await self._outcomes()) is not None:
            return outcomes
        seconds = None if timeout is None else timeout.total_seconds()
        async with asyncio.timeout(seconds):
            return await self._until_settled()

    async def _until_settled(self) -> dict[str, DeliveryOutcome]:
        while True:
            changed = self._changed  # before reading, so that nothing is missed
            with suppress(Unreachable):
                if (outcomes := await self._outcomes()) is not None:
                    return outcomes
            try:
                async with asyncio.timeout(REREAD_SECONDS):
                    await changed.wait()
            except TimeoutError:
                with suppress(Unreachable):
                    await self.refresh()

    async def _outcomes(self) -> dict[str, DeliveryOutcome] | None:
        state = self._state
        if state.result is Result.ACTIVE:
            return None
        event = completion_event(state.result, state.failure_reason)
        connection = self._owner.connection
        return await settlement(connection, self._keys, event)

    async def changed(self, *, since: Progress) -> None:
        """Return once the state differs from ``since``, or after a few seconds.

        Raises:
            InvalidState: the fetch is no longer retained.
        """
        if self._state.progress != since:
            return
        try:
            async with asyncio.timeout(REREAD_SECONDS):
                await self._changed.wait()
        except TimeoutError:
            await self.refresh()

    async def refresh(self) -> None:
        """Read the hash again.

        Raises:
            InvalidState: the fetch is no longer retained.
        """
        fields: dict[bytes, bytes] = await self._owner.connection.ask(
            "HGETALL", self._keys.fetch
        )
        if not fields:
            raise InvalidState(f"background fetch {self.id!r} is no longer retained")
        self.update(FetchState.from_hash(fields))

    def update(self, state: FetchState) -> None:
        """Take a newer state and tell listeners (§ update instances)."""
        before = self._state
        if state.version <= before.version:
            return
        self._state = state
        # Ended instances hear nothing, equal values are no event (BF-PROG-05, -06).
        if before.result is Result.ACTIVE and state.progress != before.progress:
            self._dispatch()
        self._changed.set()
        self._changed = asyncio.Event()

    def _dispatch(self) -> None:
        event = ProgressEvent(self)
        slot = [self.onprogress] if self.onprogress else []
        for listener in [*slot, *self._listeners]:
            try:
                listener(event)
            except Exception:  # a listener's error stops neither the others nor us
                log.exception("progress_listener_raised", id=self.id)

    async def abort(self) -> bool:
        """End the fetch as aborted; False if it had already ended (§ abort).

        True means that ``backgroundfetchabort`` is published and the id free.
        """
        keys, arguments = context(self._keys, self._owner.settings)
        token = "abort:" + secrets.token_hex(8)
        answer = await self._owner.connection.run(
            "abort", [*keys, self._keys.tokens], [*arguments, token, ABORTS]
        )
        with suppress(InvalidState):
            await self.refresh()
        return bool(answer)

    async def click(self) -> str:
        """Publish ``backgroundfetchclick``, as a click on the display does.

        Returns the event's name within this fetch.

        Raises:
            InvalidState: the fetch is no longer retained.
        """
        keys, arguments = context(self._keys, self._owner.settings)
        token = "click:" + secrets.token_hex(8)
        event: bytes = await self._owner.connection.run(
            "click", [*keys, self._keys.tokens], [*arguments, token]
        )
        if not event:
            raise InvalidState(f"background fetch {self.id!r} is no longer retained")
        return event.decode()

    async def present(
        self,
        *,
        title: str | None = None,
        icons: Iterable[ImageResource | Mapping[str, str]] | None = None,
    ) -> None:
        """Change the title or icons that people see; None leaves one as it is.

        Raises:
            InvalidOptions: ``title`` or ``icons`` have the wrong form.
        """
        fields: list[str] = []
        if title is not None:
            fields += ["title", check_title(title)]
        if icons is not None:
            shown = [icon.model_dump() for icon in check_icons(icons)]
            fields += ["icons", json.dumps(shown)]
        if fields:
            keys, arguments = context(self._keys, self._owner.settings)
            await self._owner.connection.run("present", keys, [*arguments, *fields])

    async def open_window(self, event: str, url: str) -> bool:
        """Show a link to the clients of this fetch, once for each click ``event``.

        False if that click has opened another window (§ openWindow).
        """
        message = WindowMessage(uid=self.uid, id=self.id, event=event, url=url)
        opened = await self._owner.connection.run(
            "window",
            [self._keys.fetch, self._keys.tokens],
            [event, url, ScopeKeys(self.scope).clients, message.encode()],
        )
        return bool(opened)

    async def release(self) -> None:
        """End the producer's hold on the records (guarantee 6).

        Raises:
            InvalidState: the fetch is no longer retained.
        """
        known = await self._owner.connection.run(
            "unhold", [self._keys.fetch, AGENDA], [self._keys.member]
        )
        if not known:
            raise InvalidState(f"background fetch {self.id!r} is no longer retained")

    async def match(
        self,
        request: str | Request,
        *,
        ignore_search: bool = False,
        ignore_method: bool = False,
        ignore_vary: bool = False,
    ) -> BackgroundFetchRecord | None:
        """Return the first record that ``request`` matches, or None (§ match).

        Raises:
            InvalidState: the records are no longer available.
            InvalidURL: ``request`` is no URL.
        """
        found = await self.match_all(
            request,
            ignore_search=ignore_search,
            ignore_method=ignore_method,
            ignore_vary=ignore_vary,
        )
        return found[0] if found else None

    async def match_all(
        self,
        request: str | Request | None = None,
        *,
        ignore_search: bool = False,
        ignore_method: bool = False,
        ignore_vary: bool = False,
    ) -> list[BackgroundFetchRecord]:
        """Return the matching records in request order; all without a request.

        Options are those of ``match``.

        Raises:
            InvalidState: the records are no longer available.
            InvalidURL: ``request`` is no URL.
        """
        if not self.records_available:
            raise InvalidState(f"the records of {self.id!r} are released")
        options = MatchOptions(ignore_search, ignore_method, ignore_vary)
        rows = await self._owner.reader.matching(self._state, request, options)
        return [
            BackgroundFetchRecord(self, self._owner.reader, index, found)
            for index, found in rows
        ]
