"""``Dispatch``: one event that was published, and what becomes of it (R11)."""

from __future__ import annotations

from datetime import timedelta

from typing_extensions import override

from broker.connection import Connection
from broker.keys import FetchKeys
from broker.live_state import LiveState
from broker.settlement import settlement
from schemas.events import DeliveryOutcome


class Dispatch:
    """An event on its way to every subscriber of its scope."""

    def __init__(
        self, registration: LiveState, connection: Connection, event: str
    ) -> None:
        self._registration = registration
        self._connection = connection
        self._event = event

    @override
    def __repr__(self) -> str:
        return f"<Dispatch {self._event} of {self._registration!r}>"

    @property
    def event(self) -> str:
        """The event's name within its fetch, as ``backgroundfetchclick.1``."""
        return self._event

    async def settled(
        self,
        timeout: timedelta | None = None,  # noqa: ASYNC109 - blocking code needs one
    ) -> dict[str, DeliveryOutcome]:
        """Wait until every subscriber is done with this event; tell what each came to.

        Outcomes are those of ``registration.settled()``. While nobody has subscribed,
        this waits for the first one. Survives lost messages and restarts of Redis.

        Raises:
            TimeoutError: that took longer than ``timeout``.
            InvalidState: the fetch is no longer retained.
        """
        return await self._registration.until(self._look, timeout)

    async def _look(self) -> dict[str, DeliveryOutcome] | None:
        keys = FetchKeys(self._registration.scope, self._registration.uid)
        # First: what is settled after the look has to be announced.
        await self._connection.run("await", [keys.events])
        return await settlement(self._connection, keys, self._event)
