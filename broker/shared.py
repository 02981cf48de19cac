"""What managers of several scopes in one process have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from broker.connection import Connection
from broker.queue import JobQueue
from broker.records import RecordReader
from broker.settings import Settings


@dataclass(frozen=True, slots=True)
class Shared:
    """The blob store, opened once, and the client of RQ's queues."""

    reader: RecordReader
    queue: JobQueue

    @classmethod
    def of(cls, connection: Connection, settings: Settings) -> Self:
        """Make what connects, or opens, when it is first needed."""
        return cls(RecordReader(connection, settings), JobQueue(connection.url))

    async def aclose(self) -> None:
        """Close what was opened."""
        await self.queue.aclose()
