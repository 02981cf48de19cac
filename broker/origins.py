"""How much all workers together may ask of one origin (R25).

Each process holds a grant for every origin that it uses: how many exchanges it may run,
and at which rate. A grant ends unless it is renewed. The script divides the limit
fairly, lowers it when an origin complains, and lets it recover.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from broker.connection import Connection
from broker.keys import ORIGIN_NEWS, ORIGINS, RECLAIM, OriginKeys
from broker.scripts import Argument
from broker.settings import Settings, milliseconds

BATCH = 100
"""Origins in one call."""
RATE = 10**6
"""Scripts count requests per so many seconds: no share is less than one."""
LULL = timedelta(seconds=5)
"""Complaints within this time lower a limit once: they answer the same burst."""
MEMORY = timedelta(hours=1)
"""How long a lowered limit outlives the last exchange, and the pause."""


@dataclass(frozen=True, slots=True)
class OriginReport:
    """How a process stands with an origin."""

    origin: str
    held: int
    """Exchanges that it may come to run before it hears an answer to this."""
    wanted: int
    used: int
    rate: float
    """Requests per second that it may come to make before it hears the answer."""
    good: bool = False
    """Whether the origin gave good answers since the last report."""
    complaint: str = ""
    """Why the limit has to be lowered, for people."""
    pause: timedelta = timedelta(0)
    """How long the origin asked to be left alone."""
    rest: timedelta = timedelta(0)
    """How long the rate lets no request begin."""

    def arguments(self) -> tuple[str, str, str]:
        """This report as the script takes it."""
        counts = f"{self.held} {self.wanted} {self.used} {round(self.rate * RATE)}"
        times = f"{milliseconds(self.pause)} {milliseconds(self.rest)}"
        return self.origin, f"{counts} {int(self.good)} {times}", self.complaint


@dataclass(frozen=True, slots=True)
class Grant:
    """What a process may ask of an origin until its lease ends."""

    connections: int
    rate: float | None
    """Requests per second; None for any."""
    pause: timedelta = timedelta(0)
    """Time during which nothing may be asked at all."""
    rest: timedelta = timedelta(0)
    """Time before the first request, for a process that had no share of the rate."""
    contended: bool = False
    """Whether others wait: what is not needed should be given back at once."""
    limit: int = 0
    """What all processes together may run."""
    reason: str = ""
    """Why the limit is low, for people; empty if it is not."""


@dataclass(frozen=True, slots=True)
class OriginLook:
    """How all workers together stand with an origin."""

    origin: str
    limit: int
    base: int
    """The limit when all is well."""
    used: int
    processes: int
    rate: float | None
    reason: str
    """Why the limit is low, for people; empty if it is not."""
    lowered_at: int | None
    """Milliseconds since the epoch, as the others."""
    paused_until: int | None
    now: int
    """The time of this look."""

    @property
    def paused(self) -> timedelta:
        """The time that is left of a pause."""
        left = 0 if self.paused_until is None else self.paused_until - self.now
        return timedelta(milliseconds=left)


class Origins:
    """One process's word with all others about origins."""

    def __init__(self, connection: Connection, settings: Settings) -> None:
        self.nonce = secrets.token_hex(8)
        self._connection = connection
        self._rate = round(RATE * (settings.origin_rate or 0))
        self._arguments: list[Argument] = [
            self.nonce,
            milliseconds(settings.lease),
            settings.origin_connections,
            self._rate,
            milliseconds(settings.origin_recovery),
            milliseconds(LULL),
            milliseconds(MEMORY),
            ORIGIN_NEWS,
        ]

    async def renew(self, reports: Sequence[OriginReport]) -> list[Grant]:
        """Tell of origins, at most ``BATCH``, and return this process's grant for each.

        A report that wants and holds nothing gives the grant back.

        Raises:
            Unreachable: Redis does not answer.
        """
        keys = [key for report in reports for key in OriginKeys(report.origin).all()]
        words = [word for report in reports for word in report.arguments()]
        rows = await self._connection.run(
            "origins", [ORIGINS, RECLAIM, *keys], [*self._arguments, *words]
        )
        return [
            Grant(
                connections,
                rate / RATE if self._rate else None,
                timedelta(milliseconds=pause),
                timedelta(milliseconds=rest),
                bool(contended),
                limit,
                reason.decode(),
            )
            for connections, rate, rest, pause, contended, limit, reason in zip(
                *(iter(rows),) * 7, strict=True
            )
        ]


async def look_at(connection: Connection, origins: Sequence[str]) -> list[OriginLook]:
    """Look at some origins; those that nobody uses or remembers are left out.

    Raises:
        Unreachable: Redis does not answer.
    """
    looks: list[OriginLook] = []
    for start in range(0, len(origins), BATCH):
        names = origins[start : start + BATCH]
        keys = [key for name in names for key in OriginKeys(name).all()]
        rows = await connection.run("look_at_origins", keys)
        for at, name in enumerate(names):
            fields, grants, now = rows[3 * at : 3 * at + 3]
            if fields:
                looks.append(_look(name, fields, grants, now))
    return looks


async def all_origins(connection: Connection) -> list[OriginLook]:
    """Look at every origin that is used or remembered, at most 1,000, by name.

    Raises:
        Unreachable: Redis does not answer.
    """
    now = await connection.now()
    names: list[bytes] = await connection.ask(
        "ZRANGEBYSCORE", ORIGINS, now, "+inf", "LIMIT", 0, 1000
    )
    return await look_at(connection, sorted(name.decode() for name in names))


def _look(
    origin: str, flat: Sequence[bytes], grants: Sequence[bytes], now: int
) -> OriginLook:
    words = [value.decode() for value in flat]
    fields = dict(zip(words[::2], words[1::2], strict=True))
    lowered = fields.get("loweredAt")
    paused_until = int(fields.get("pausedUntil", 0))
    return OriginLook(
        origin,
        limit=int(fields["limit"]),
        base=int(fields["base"]),
        used=sum(int(grant.split()[2]) for grant in grants),
        processes=len(grants),
        rate=float(fields["rate"]) or None,
        reason=fields.get("reason", ""),
        lowered_at=int(lowered) if lowered else None,
        paused_until=paused_until if paused_until > now else None,
        now=now,
    )
