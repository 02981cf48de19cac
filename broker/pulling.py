"""A subscriber whose consumers pull: a program in any language, over HTTP (R10, R20).

Each pull is a consumer of its own, whose name and nonce come from the caller's key: a
repetition after a lost answer gets the same deliveries, whoever answers it. Nothing is
kept in this process, and nobody but the caller keeps its deliveries alive.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import timedelta

from broker.connection import Connection
from broker.deliveries import DeliveryName, new_nonce
from broker.holding import Held, Nack, ack, backoff, extend, nack
from broker.inbox import Start
from broker.keys import PULLED, ScopeKeys
from broker.pull import Pull
from broker.settings import Settings
from broker.standing import memberships
from broker.stream import Subscription
from schemas.errors import Failure, InvalidName
from schemas.filters import EVERYTHING, EventFilter
from schemas.names import check_scope, check_subscriber

_TOKEN = re.compile(
    r"(\d{1,20}-\d{1,20}/[0-9a-f]{32}/[a-z]+(?:\.\d+)?)/([0-9a-f]{16})", re.ASCII
)


class Pulling:
    """One subscriber, for callers that pull its deliveries."""

    def __init__(
        self, connection: Connection, settings: Settings, scope: str, subscriber: str
    ) -> None:
        """Raises InvalidName where a name is none."""
        self.scope = check_scope(scope)
        self.subscriber = check_subscriber(subscriber)
        self._connection = connection
        self._settings = settings
        self._keys = ScopeKeys(scope).subscriber(subscriber)

    async def join(self, takes: EventFilter = EVERYTHING, start: Start = "new") -> None:
        """Make sure that the subscriber exists; another filter counts from now on.

        Raises:
            InvalidState: it cannot join now: it, or its scope, is being removed, or it
                has had too many filters.
            Unreachable: Redis does not answer.
        """
        inbox = self._inbox(_consumer(new_nonce()), takes=takes, start=start)
        await inbox.join()
        await self._be_looked_after()
        await inbox.bury(inbox.consumer, leaving=True)

    async def exists(self) -> bool:
        """Whether somebody has joined, and nobody has removed it.

        Raises:
            Unreachable: Redis does not answer.
        """
        found = await memberships(self._connection, ScopeKeys(self.scope))
        return self.subscriber in found and found[self.subscriber].left is None

    async def pull(self, key: str | None, lease: timedelta) -> Pull:
        """Begin to pull; repeated with the same ``key``, it gets the same deliveries.

        Raises:
            InvalidState: the subscriber, or its scope, is being removed.
            Unreachable: Redis does not answer.
        """
        named = f"{self._keys.member} {key}".encode()
        nonce = new_nonce() if key is None else hashlib.sha256(named).hexdigest()[:16]
        inbox = self._inbox(_consumer(nonce))
        await inbox.join(again=True)
        await self._be_looked_after()
        connection, settings = self._connection, self._settings
        again = key is not None
        return Pull(connection, settings, inbox, nonce, lease, again=again)

    def _inbox(
        self, consumer: str, *, takes: EventFilter = EVERYTHING, start: Start = "new"
    ) -> Subscription:
        return Subscription(
            *(self._connection, self._settings, self.scope, self.subscriber),
            takes=takes,
            start=start,
            consumer=consumer,
        )

    async def _be_looked_after(self) -> None:
        """Gateways then take over what a caller's end leaves behind."""
        await self._connection.ask("SADD", PULLED, self._keys.member)

    def held(self, token: str) -> Held:
        """The right that a token stands for.

        Raises:
            InvalidName: it is no token.
        """
        match = _TOKEN.fullmatch(token)
        if match is None:
            raise InvalidName(
                f"{token[:100]!r} is no token of a delivery: send back those of a pull"
            )
        name = DeliveryName.of(self.scope, self.subscriber, match[1])
        return Held(name, match[2])

    async def ack(self, held: Sequence[Held]) -> list[bool]:
        """Acknowledge; False where the lease has ended and another has it, or had it.

        Raises:
            Unreachable: Redis does not answer.
        """
        acked = await ack(self._connection, self._settings, held)
        await self._tidy(held)
        return acked

    async def nack(
        self,
        held: Sequence[Held],
        *,
        failed: bool,
        reason: str,
        delay: timedelta | None,
    ) -> list[Nack]:
        """Give up: as failed, or handed back; None for a delay that grows by itself.

        Raises:
            Unreachable: Redis does not answer.
        """
        verdicts = await asyncio.gather(
            *(self._nack(one, failed, reason, delay) for one in held)
        )
        await self._tidy(held)
        return verdicts

    async def _nack(
        self, held: Held, failed: bool, reason: str, delay: timedelta | None
    ) -> Nack:
        if delay is None:
            delay = await self._delay(held) if failed else timedelta(0)
        return await nack(
            *(self._connection, self._settings, held),
            failed=failed,
            delay=delay,
            reason=reason,
        )

    async def _delay(self, held: Held) -> timedelta:
        name = held.name
        events = ScopeKeys(self.scope).fetch(name.uid).events
        line: bytes | None = await self._connection.ask(
            "HGET", events, f"{name.event}|{self.subscriber}"
        )
        return backoff(self._settings, int(line.split()[1]) if line else 0)

    async def extend(self, held: Sequence[Held], lease: timedelta) -> list[bool]:
        """Let leases end so long from now; False where it is not so held any more.

        Raises:
            Unreachable: Redis does not answer.
        """
        lost: set[str] = set()
        for nonce in sorted({one.nonce for one in held}):
            mine = [one for one in held if one.nonce == nonce]
            gone = await extend(
                *(self._connection, self.scope, self.subscriber),
                consumer=_consumer(nonce),
                lease=lease,
                held=mine,
            )
            lost |= {f"{nonce} {member.decode()}" for member in gone}
        return [f"{one.nonce} {one.name.member}" not in lost for one in held]

    async def _tidy(self, held: Iterable[Held]) -> None:
        """Forget the consumers that have nothing left."""
        with suppress(Failure):  # housekeeping does it, too
            for nonce in {one.nonce for one in held}:
                consumer = _consumer(nonce)
                await self._inbox(consumer).bury(consumer, leaving=True)


def _consumer(nonce: str) -> str:
    return f"http:{nonce}"
