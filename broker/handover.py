"""How new entries reach a process: each with the right to handle it (R10, R20).

Who waits for entries sends two commands at once: a read that blocks until Redis hands
an entry over, and behind it the script that takes the right to it, and to more. So a
handler starts without another round trip.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from broker.connection import Connection
from broker.context import context
from broker.keys import ScopeKeys
from broker.pipelining import Pipelining
from broker.scripts import Argument, script
from broker.settings import Settings, milliseconds
from schemas import messages

LOOK_AT = 1000
"""Entries that one call may find excluded: a script's work is bounded (R22)."""


@dataclass(frozen=True, slots=True)
class Handed:
    """What one call brought; of no use once the next one has begun."""

    nonce: str
    """Under which this process holds what it may handle."""
    rows: list[list[Any]]
    """See ``lua/receive.lua``."""
    paused: bool


class HandOver:
    """One consumer's new entries; has a connection of its own.

    The rights of an answer that was lost come with the next one: it is the same call.
    Each call says whether the answer before it came, so that a process that died
    without its deliveries has not failed to handle them.
    """

    def __init__(
        self,
        connection: Connection,
        settings: Settings,
        scope: str,
        subscriber: str,
        consumer: str,
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._scope = ScopeKeys(scope)
        self._subscriber = subscriber
        self._consumer = consumer
        self._pipelining: Pipelining | None = None
        self._calls = 0
        self._arrived: str | int = ""
        self._last = "0-0"
        self._looks_back = False
        self._idle = False
        self.unanswered: str | None = None
        """The nonce of the last call, if its answer was lost or is under way."""

    async def take(self, count: int, block: timedelta) -> Handed:
        """Begin at most ``count`` new entries; if there were none last time, wait.

        0 of them: tell Redis that the last answer came, unless it knows.

        Raises:
            Unreachable: Redis does not answer, or has lost the group.
        """
        ahead: list[tuple[Argument, ...]] = []
        if not count and self.unanswered is None and self._arrived == "":
            return Handed("", [], paused=False)
        if self.unanswered is None:
            self._calls += 1
            self.unanswered = f"{secrets.token_hex(8)}-{self._calls}"
            if count and self._idle and not self._looks_back:
                ahead.append(self._wait(block))
        else:
            self._looks_back = True
        nonce, back = self.unanswered, self._last if self._looks_back or ahead else ""

        async def ask(*command: Argument) -> Any:
            commands, ahead[:] = [*ahead, command], []
            return (await self._reads().ask_all(commands))[-1]

        async with self._connection.answering(block):
            looked_at, last, *rows = await script("receive").run(
                ask, *self._call(count, nonce, back)
            )
        self.unanswered, self._looks_back = None, False
        self._arrived = self._calls if rows else ""
        self._last = last.decode() or self._last
        self._idle = looked_at == 0
        return Handed(nonce, rows, paused=looked_at < 0)

    async def glance(self, count: int) -> list[list[bytes]]:
        """Hand over at most ``count`` new entries, and begin none; never wait.

        Raises:
            Unreachable: Redis does not answer, or has lost the group.
        """
        call = self._call(count, "", "")
        answer: list[Any] = await self._connection.run("receive", *call)
        return answer[2:]

    def look_back(self) -> None:
        """The next call looks at all that this consumer has: answers may be lost."""
        self._last, self._looks_back = "0-0", True

    def _reads(self) -> Pipelining:
        """Repeats nothing by itself, and has the patience of ``answering``."""
        if self._pipelining is None:
            client = self._connection.blocking_client()
            self._pipelining = Pipelining(client, patience=None)
        return self._pipelining

    def _wait(self, block: timedelta) -> tuple[Argument, ...]:
        """Hand over one entry, so that one process wakes; more come behind it."""
        return (
            *("XREADGROUP", "GROUP", self._subscriber, self._consumer, "COUNT", 1),
            *("BLOCK", milliseconds(block), "STREAMS", self._scope.events, ">"),
        )

    def _call(
        self, count: int, nonce: str, back: str
    ) -> tuple[list[str], list[Argument]]:
        mine = self._scope.subscriber(self._subscriber)
        keys, arguments = context(self._scope.fetch(""), self._settings)
        keys += [mine.leases, mine.due, self._scope.subscribers, mine.state]
        return [*keys, mine.arrived], [
            *arguments,
            *(self._subscriber, "", ""),
            *(self._consumer, milliseconds(self._settings.lease)),
            *(count, LOOK_AT, nonce, back, self._arrived, messages.VERSION),
        ]

    async def aclose(self) -> None:
        """Close the connection; the next call opens another."""
        if self._pipelining is not None:
            await self._pipelining.aclose()
