"""One delivery by its name, and how it ends without being acknowledged (R9, R21)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from broker.connection import Connection
from broker.context import context
from broker.keys import FetchKeys, ScopeKeys
from broker.settings import Settings
from schemas.events import DeliveryOutcome

MAX_REASON = 1000
"""Characters of a failure's reason that are kept."""


@dataclass(frozen=True, slots=True)
class DeliveryName:
    """An event of a fetch, on its way to one subscriber."""

    scope: str
    subscriber: str
    entry: str
    uid: str
    event: str

    @classmethod
    def of(cls, scope: str, subscriber: str, member: str) -> Self:
        """Read the name that a delivery has in its subscriber's sets.

        Raises:
            ValueError: it is no such name.
        """
        entry, uid, event = member.split("/", 2)
        return cls(scope, subscriber, entry, uid, event)

    @classmethod
    def published(
        cls, scope: str, subscriber: str, entry: bytes, fields: dict[bytes, bytes]
    ) -> Self | None:
        """Read the name from an entry of the stream; None if it is no event of ours."""
        told = fields.get(b"delivery", b"").decode(errors="replace")
        try:
            return cls.of(scope, subscriber, f"{entry.decode()}/{told}")
        except ValueError:
            return None

    @property
    def member(self) -> str:
        """The name of this delivery in its subscriber's sets."""
        return f"{self.entry}/{self.uid}/{self.event}"

    def context(self, settings: Settings) -> tuple[list[str], list[str | int]]:
        """The keys and arguments with which every script about a delivery begins."""
        keys, arguments = context(FetchKeys(self.scope, self.uid), settings)
        mine = ScopeKeys(self.scope).subscriber(self.subscriber)
        return (
            [*keys, mine.leases, mine.due],
            [*arguments, self.subscriber, self.event, self.member],
        )

    def letter_keys(self) -> list[str]:
        """Where its dead letter is, for the scripts that write or drop one."""
        mine = ScopeKeys(self.scope).subscriber(self.subscriber)
        return [mine.dead, mine.copies]


async def conclude(
    connection: Connection,
    settings: Settings,
    delivery: DeliveryName,
    outcome: DeliveryOutcome,
) -> bool:
    """Give a delivery its outcome; False if it has another, or this one is not due.

    Raises:
        Unreachable: Redis does not answer.
    """
    keys, arguments = delivery.context(settings)
    subscribers = ScopeKeys(delivery.scope).subscribers
    return bool(
        await connection.run(
            "conclude",
            [*keys, *delivery.letter_keys(), subscribers],
            [*arguments, outcome],
        )
    )


def bounded(reason: str) -> str:
    """A reason as it is kept: in UTF-8, and not at any length."""
    return reason.encode(errors="replace").decode()[:MAX_REASON]
