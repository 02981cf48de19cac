"""Events that a process cannot read: for a later release, or for people (R21)."""

from __future__ import annotations

import re
from datetime import timedelta

from broker.connection import Connection
from broker.deliveries import DeliveryName, bounded
from broker.keys import ScopeKeys
from broker.settings import Settings, milliseconds
from schemas.events import DeadLetter, LetterState

_DELIVERY = re.compile(r"[0-9a-f]{32}/[a-z]+(\.\d+)?")


class Quarantine:
    """Puts a subscriber's unreadable entries where they stop nobody."""

    def __init__(
        self, connection: Connection, settings: Settings, scope: str, subscriber: str
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._scope = scope
        self._subscriber = subscriber
        self._keys = ScopeKeys(scope)

    async def hand_back(self, entry: str, delay: timedelta) -> bool:
        """Leave an entry, uncounted, to a process of a later release.

        After ``delay`` any process takes it, and may hand it back again, until the
        fetch's retention ends; then it expires, and leaves a copy for people. False if
        its form tells no delivery of ours, so that nothing was done.

        Raises:
            Unreachable: Redis does not answer.
        """
        name = await self._name(entry)
        if name is None:
            return False
        keys, arguments = name.context(self._settings)
        await self._connection.run("defer", keys, [*arguments, milliseconds(delay)])
        return True

    async def put_aside(self, entry: str, reason: str, nonce: str = "") -> None:
        """Put an entry that cannot be read with the dead letters; nothing is lost.

        One that somebody holds is left alone, unless it is under this ``nonce``.

        Raises:
            Unreachable: Redis does not answer.
        """
        name = await self._name(entry)
        if name is None:
            await self._keep_foreign(entry, reason)
            return
        keys, arguments = name.context(self._settings)
        await self._connection.run(
            "quarantine",
            [*keys, *name.letter_keys(), self._keys.subscribers],
            [*arguments, bounded(reason), nonce],
        )

    async def _name(self, entry: str) -> DeliveryName | None:
        rows: list[tuple[bytes, dict[bytes, bytes]]] = await self._connection.ask(
            "XRANGE", self._keys.events, entry, entry
        )
        fields = rows[0][1] if rows else {}
        told = fields.get(b"delivery", b"").decode(errors="replace")
        if not _DELIVERY.fullmatch(told):
            return None
        return DeliveryName.of(self._scope, self._subscriber, f"{entry}/{told}")

    async def _keep_foreign(self, entry: str, reason: str) -> None:
        """Keep a letter about an entry that no script of ours has published."""
        letter = DeadLetter(
            state=LetterState.UNREADABLE,
            subscriber=self._subscriber,
            entry=entry,
            at=await self._connection.now(),
            reason=bounded(reason),
        )
        dead = self._keys.subscriber(self._subscriber).dead
        await self._connection.ask("HSET", dead, entry, letter.encode())
        await self._connection.ask("XACK", self._keys.events, self._subscriber, entry)
