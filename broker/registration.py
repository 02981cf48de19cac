"""``BackgroundFetchRegistration``: the handle on one background fetch."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import timedelta

from broker.context import context
from broker.dispatch import Dispatch
from broker.keys import ABORTS, AGENDA, ScopeKeys, windows
from broker.live_state import LiveState
from broker.pausing import Pausing
from broker.places import places
from broker.record import BackgroundFetchRecord
from broker.records import MatchOptions
from broker.settlement import settlement
from schemas.errors import InvalidState
from schemas.events import DeliveryOutcome, WindowMessage, completion_event
from schemas.fetches import Result
from schemas.names import check_client
from schemas.options import ImageResource, check_icons, check_title
from schemas.requests import Request


class BackgroundFetchRegistration(LiveState):
    """One background fetch, as every process sees it.

    Methods that ask Redis raise ``Unreachable`` when it is away.
    """

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
        return await self.until(self._outcomes, timeout)

    async def _outcomes(self) -> dict[str, DeliveryOutcome] | None:
        state = self._state
        if state.result is Result.ACTIVE:
            return None
        event = completion_event(state.result, state.failure_reason)
        connection = self._owner.connection
        return await settlement(connection, self._keys, event)

    async def abort(self, *, token: str | None = None) -> bool:
        """End the fetch as aborted; False if it had already ended (§ abort).

        True means that ``backgroundfetchabort`` is published and the id free. A call
        that repeats another one, told by the same ``token``, has its answer (R23).
        """
        keys, arguments = context(self._keys, self._owner.settings)
        place_keys, place_arguments = places(self._keys, self._owner.settings)
        call = f"abort:{token or secrets.token_hex(8)}"
        answer = await self._owner.connection.run(
            "abort",
            [*keys, self._keys.tokens, *place_keys],
            [*arguments, call, ABORTS, *place_arguments],
        )
        await self._reread()
        return bool(answer)

    async def pause(self) -> bool:
        """Send no request of this fetch until it is resumed; False if none is already.

        Transfers end and their bytes are kept, to be gone on with; no attempt counts
        as failed. Nothing is in flight any more within a lease (``BGFETCH_LEASE``),
        most often within a fraction of a second. It stays paused over restarts.

        Raises:
            InvalidState: one of the requests is not a GET, or the fetch has ended.
        """
        changed = await self._pausing.pause(self._state)
        await self._reread()
        return changed

    async def resume(self) -> bool:
        """Let a paused fetch go on; False if it is not paused.

        Where the permission of the scope is ``prompt``, this grants it for this fetch,
        as ``abort()`` refuses it.

        Raises:
            InvalidState: the fetch has ended.
        """
        changed = await self._pausing.resume(self._state)
        await self._reread()
        return changed

    @property
    def _pausing(self) -> Pausing:
        owner = self._owner
        return Pausing(owner.connection, owner.settings, owner.queue)

    async def _reread(self) -> None:
        """Show what a call has changed, if the fetch is still retained."""
        with suppress(InvalidState):
            await self.refresh()

    async def click(self, *, client: str = "", token: str | None = None) -> Dispatch:
        """Publish ``backgroundfetchclick``, as a click on the display does.

        ``await dispatch.settled()`` tells what became of it. ``client`` is the id that
        a gateway gave to the screen that was clicked: the window that is opened for it
        is shown there alone, while it is connected. A call that repeats another one,
        told by the same ``token``, publishes nothing (R23).

        Raises:
            InvalidName: ``client`` is no such id.
            InvalidState: the fetch is no longer retained.
        """
        check_client(client)
        event = await self._owner.clicks.publish(self._keys, client, token)
        if not event:
            raise InvalidState(f"background fetch {self.id!r} is no longer retained")
        return Dispatch(self, self._owner.connection, event)

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
        clicked: bytes | None = await self._owner.connection.ask(
            "HGET", self._keys.tokens, f"client:{event}"
        )
        client = clicked.decode() if clicked else ""
        message = WindowMessage(
            uid=self.uid,
            id=self.id,
            event=event,
            url=url,
            scope=self.scope,
            client=client,
        )
        process = client.partition(".")[0]
        opened = await self._owner.connection.run(
            "window",
            [self._keys.fetch, self._keys.tokens],
            [
                event,
                url,
                ScopeKeys(self.scope).clients,
                message.encode(),
                windows(process) if process else "",
            ],
        )
        return bool(opened)

    async def dispatched(self, event: str) -> Dispatch | None:
        """Return an event of this fetch by its name, or None if there is none."""
        about = await self._owner.connection.ask("HGET", self._keys.events, event)
        if about is None or "|" in event:  # what became of it at somebody
            return None
        return Dispatch(self, self._owner.connection, event)

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

    async def records(
        self, start: int = 0, limit: int = 100
    ) -> list[BackgroundFetchRecord]:
        """Return records in request order, looked at now, in one round trip.

        Beyond the specification: ``match_all`` reads every request of the fetch.

        Raises:
            InvalidState: the records are no longer available.
        """
        reader = self._owner.reader
        rows = await reader.page(self._keys, start, limit)
        return [
            BackgroundFetchRecord(self, reader, at, request, look)
            for at, (request, look) in enumerate(rows, start)
        ]
