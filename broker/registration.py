"""``BackgroundFetchRegistration``: the handle on one background fetch."""

from __future__ import annotations

import secrets
from contextlib import suppress
from datetime import timedelta
from typing import Protocol

from broker.context import context
from broker.display import Display
from broker.forgetting import forget
from broker.keys import ABORTS, AGENDA
from broker.live_state import Owner
from broker.pausing import Pausing
from broker.places import places
from broker.record import BackgroundFetchRecord
from broker.records import MatchOptions
from broker.retrying import retried
from broker.settlement import settlement
from schemas.errors import InvalidState
from schemas.events import DeliveryOutcome, completion_event
from schemas.fetches import FetchState, Result
from schemas.requests import Request


class Maker(Owner, Protocol):
    """The manager, which has one registration for each fetch."""

    def registration(self, state: FetchState) -> BackgroundFetchRegistration:
        """Return the one for this fetch (BF-INST-01)."""


class BackgroundFetchRegistration(Display):
    """One background fetch, as every process sees it.

    Methods that ask Redis raise ``Unreachable`` when it is away.
    """

    def __init__(self, maker: Maker, state: FetchState) -> None:
        super().__init__(maker, state)
        self._maker = maker

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

    async def pause(self, *, token: str | None = None) -> bool:
        """Send no request of this fetch until it is resumed; False if none is already.

        Transfers end and their bytes are kept, to be gone on with; no attempt counts
        as failed. Nothing is in flight any more within a lease (``BGFETCH_LEASE``),
        most often within a fraction of a second. It stays paused over restarts. A call
        told by the same ``token`` has the same answer (R23).

        Raises:
            InvalidState: one of the requests is not a GET, or the fetch has ended.
        """
        changed = await self._pausing.pause(self._state, token)
        await self._reread()
        return changed

    async def resume(self, *, token: str | None = None) -> bool:
        """Let a paused fetch go on; False if it is not paused.

        Where the permission of the scope is ``prompt``, this grants it for this fetch,
        as ``abort()`` refuses it. A call told by the same ``token`` has the same
        answer (R23).

        Raises:
            InvalidState: the fetch has ended.
        """
        changed = await self._pausing.resume(self._state, token)
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

    async def retry(self, *, token: str | None = None) -> BackgroundFetchRegistration:
        """Register a fetch that failed, or was aborted, once more; return the new one.

        It has the same id, requests and options, and the rules of the scope as they are
        now. A repeated call gives the same ``token``, 32 random hexadecimal digits,
        which becomes the ``uid`` (R23).

        Raises:
            InvalidState: it is active, succeeded, or is no longer retained; or large
                bodies of its requests are released with its records.
            DuplicateFetch: an active fetch of this scope has this id.
            RejectedFetch, NotAllowed, QuotaExceeded: as ``fetch()`` raises them.
        """
        state = await retried(self._maker, self.id, self._keys, token)
        return self._maker.registration(state)

    async def forget(self, *, force: bool = False) -> None:
        """Delete a fetch that has ended, now rather than when its retention ends.

        Nobody finds it any more; its bytes are deleted within a minute, but for readers
        that have a body open. A producer's hold does not keep it.

        Raises:
            InvalidState: it is active (BF-DISP-03), or no longer retained; or, unless
                ``force`` is set, some subscriber has not settled one of its events.
                Forced, these expire, and leave copies among the dead letters.
        """
        await forget(
            self._owner.connection, self._owner.settings, self._state, force=force
        )

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
