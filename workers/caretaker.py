"""Housekeeping of subscribers that are pulled: none of their processes is ours."""

from __future__ import annotations

import asyncio

import structlog

from broker.agenda import Agenda
from broker.connection import Connection
from broker.keys import PULLED, ScopeKeys
from broker.settings import Settings
from broker.stream import Subscription
from schemas.errors import Failure, QuotaExceeded
from workers.housekeeping import take_over
from workers.timekeeping import keeping_time

log = structlog.get_logger()

TIME = "pulled/"
"""Any gateway that answers lets callers extend: their grace is one for all (R15)."""


class Caretaker:
    """Returns what callers took and do not extend; for any number of processes."""

    def __init__(self, connection: Connection, settings: Settings) -> None:
        self._connection = connection
        self._settings = settings
        self._agenda = Agenda(connection, settings)

    async def run(self) -> None:
        """Until cancelled, make passes; survives a Redis that is away."""
        pause = self._settings.lease.total_seconds() / 4
        async with keeping_time(self._agenda, self._settings, name=TIME):
            while True:
                try:
                    await self.make_pass()
                except (Failure, QuotaExceeded) as error:
                    log.debug("caretaker_waits", error=str(error))
                await asyncio.sleep(pause)

    async def make_pass(self) -> None:
        """Take over what ended leases held, unless they could not be extended (R15).

        Raises:
            Unreachable: Redis does not answer.
        """
        if await self._agenda.grace(self._settings.lease, name=TIME):
            return
        members: set[bytes] = await self._connection.ask("SMEMBERS", PULLED)
        for member in sorted(members):
            scope, _, name = member.decode().partition("/")
            if await self._connection.ask(
                "HEXISTS", ScopeKeys(scope).subscribers, name
            ):
                connection, settings = self._connection, self._settings
                await take_over(Subscription(connection, settings, scope, name))
            else:  # whoever joins again says so again
                await self._connection.ask("SREM", PULLED, member)
