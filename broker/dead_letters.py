"""Deliveries that were given up: find them, replay them, purge them (R21).

A dead letter is not settled: it keeps the records of its fetch until it is replayed,
purged, or expires with the fetch's retention.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from broker.connection import Connection
from broker.deliveries import DeliveryName, conclude
from broker.keys import ScopeKeys
from broker.replays import replay
from broker.settings import Settings
from schemas.errors import InvalidMessage
from schemas.events import DeadLetter, DeliveryOutcome, LetterState

BATCH = 200


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which dead letters are meant; what is None leaves open."""

    subscriber: str | None = None
    type: str | None = None
    id: str | None = None
    delivery_id: str | None = None

    def __contains__(self, letter: DeadLetter) -> bool:
        return (
            self.subscriber in (None, letter.subscriber)
            and self.type in (None, letter.type)
            and self.id in (None, letter.id)
            and self.delivery_id in (None, letter.delivery_id)
        )


class DeadLetters:
    """The dead letters of one scope, of all its subscribers."""

    def __init__(self, connection: Connection, settings: Settings, scope: str) -> None:
        self.scope = scope
        self._connection = connection
        self._settings = settings
        self._keys = ScopeKeys(scope)

    async def find(
        self, wanted: LetterFilter | None = None, *, most: int | None = None
    ) -> list[DeadLetter]:
        """Return the letters that are meant, in the order of publication.

        Of more than ``most`` they are any, and no more are read.

        Raises:
            Unreachable: Redis does not answer.
        """
        wanted, found = wanted or LetterFilter(), list[DeadLetter]()
        async for letter in self._all():
            if len(found) == most:
                break
            if letter in wanted:
                found.append(letter)
        return sorted(found, key=lambda letter: (_place(letter.entry), letter.member))

    async def _all(self) -> AsyncIterator[DeadLetter]:
        names: list[bytes] = await self._connection.ask("HKEYS", self._keys.subscribers)
        for name in sorted(name.decode() for name in names):
            async for letter in self._of(name):
                yield letter

    async def _of(self, subscriber: str) -> AsyncIterator[DeadLetter]:
        key, cursor = self._keys.subscriber(subscriber).dead, None
        while cursor != 0:
            cursor, rows = await self._connection.ask(
                "HSCAN", key, cursor or 0, "COUNT", BATCH
            )
            for member, value in rows.items():
                yield self._read(subscriber, member.decode(errors="replace"), value)

    def _read(self, subscriber: str, member: str, value: bytes) -> DeadLetter:
        try:
            letter = DeadLetter.decode(value)
        except InvalidMessage as error:  # written by another release
            entry, *rest = member.split("/", 2)
            uid, event = rest if len(rest) == 2 else ("", "")
            letter = DeadLetter(
                state=LetterState.UNREADABLE,
                subscriber=subscriber,
                entry=entry,
                uid=uid,
                event=event,
                at=0,
                reason=str(error),
            )
        return letter.model_copy(update={"scope": self.scope})

    async def replay(self, letter: DeadLetter) -> bool:
        """Deliver it again at once: the same delivery, its failures forgotten (R21).

        False if it is no dead letter any more, if it expired, or if it names no event.

        Raises:
            Unreachable: Redis does not answer.
        """
        name = self._name(letter)
        if name is None:
            return False
        return await replay(self._connection, self._settings, name, whatever=False)

    async def purge(self, letter: DeadLetter) -> bool:
        """Give it up for ever: the delivery is settled as ``purged`` (R21).

        False if it is no dead letter any more. Of one that expired the copy is deleted.

        Raises:
            Unreachable: Redis does not answer.
        """
        name = self._name(letter)
        if name is None:
            key = self._keys.subscriber(letter.subscriber).dead
            return bool(await self._connection.ask("HDEL", key, letter.member))
        return await conclude(
            self._connection, self._settings, name, DeliveryOutcome.PURGED
        )

    def _name(self, letter: DeadLetter) -> DeliveryName | None:
        if not letter.uid:
            return None
        return DeliveryName.of(self.scope, letter.subscriber, letter.member)


def _place(entry: str) -> tuple[int, int]:
    """Where an entry stands in the stream."""
    at, _, number = entry.partition("-")
    return (int(at), int(number)) if at.isdecimal() and number.isdecimal() else (0, 0)
