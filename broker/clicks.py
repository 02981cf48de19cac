"""Clicks on the displays of background fetches: many at the same time are one call."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from broker.connection import Connection
from broker.context import context
from broker.keys import FetchKeys
from broker.settings import Settings
from broker.together import Together

AT_ONCE = 64
"""Clicks in one call: a script's work is bounded (R22)."""


class Clicks:
    """Publishes ``backgroundfetchclick`` events of one scope."""

    def __init__(self, connection: Connection, settings: Settings) -> None:
        self._connection = connection
        self._settings = settings
        self._together: Together[tuple[FetchKeys, str, str], str] = Together(
            self._publish_all, AT_ONCE, "clicks"
        )

    async def publish(
        self, keys: FetchKeys, client: str = "", token: str | None = None
    ) -> str:
        """Publish a click on a fetch; return the event's name within the fetch.

        ``client`` names who clicked, if it is one of a gateway's clients. Empty if the
        fetch is no longer retained. With a ``token`` that was used before it is the
        name of the event that was published then (R23).

        Raises:
            Unreachable: Redis does not answer. It may have been published.
        """
        call = f"click:{token or secrets.token_hex(8)}"
        return await self._together.ask((keys, call, client))

    async def _publish_all(
        self, clicks: Sequence[tuple[FetchKeys, str, str]]
    ) -> list[str]:
        keys, arguments = context(clicks[0][0], self._settings)
        for fetch, token, client in clicks:
            keys += [fetch.fetch, fetch.events, fetch.tokens]
            arguments += [token, client]
        events = await self._connection.run("click", keys, arguments)
        return [event.decode() for event in events]

    async def aclose(self) -> None:
        """Give up what is under way."""
        await self._together.aclose()
