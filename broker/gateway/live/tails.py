"""Reading the ends of event streams: nothing twice, nothing left out, in order.

A message on a scope's channel is only a hint that its stream has grown (R25): events
are read from the stream, once for all readers, and so have an id to resume from.

The id for a reader of one scope is the entry in its stream. For a reader of all scopes
it is a time of Redis's clock: everything published before it has been told. Hints come
in the order of publication, so what was hinted last bounds that time.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from broker.connection import Connection
from broker.keys import ScopeKeys
from broker.scopes import scope_names

BATCH = 500
NOTHING = "0-0"
"""Before every entry."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An event of a stream."""

    scope: str
    id: str
    message: bytes

    @property
    def place(self) -> tuple[int, int]:
        """Where it stands in its stream: milliseconds, and a number."""
        return place(self.id)


def place(id: str) -> tuple[int, int]:
    """Read the id of an entry, or a time, which is before all of its entries.

    Raises:
        ValueError: it is none.
    """
    at, _, number = id.partition("-")
    return int(at), int(number or 0)


class Tails:
    """Where the reading of each stream stands."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._read: dict[str, str] = {}
        self._hinted: set[str] = set()
        self.everything = False
        """Whether streams of scopes that were not begun count, from their start."""
        self.hinted_at = 0
        """The newest hint: every event from before it has been hinted at."""

    def position(self, scope: str) -> str | None:
        """The last entry that was read; None of a stream that was not begun."""
        return self._read.get(scope)

    def positions(self) -> dict[str, str]:
        """The last entry that was read of each stream."""
        return dict(self._read)

    def hint(self, scopes: Collection[str], at: int) -> None:
        """Remember that streams have grown."""
        self._hinted.update(scopes)
        self.hinted_at = max(self.hinted_at, at)

    async def begin(self, scopes: Collection[str]) -> None:
        """Start at the present end of streams, where they were not begun.

        Raises:
            Unreachable: Redis does not answer.
        """
        new = [scope for scope in scopes if scope not in self._read]
        if self.everything:  # they came since: what they hold is still to be told
            self._read.update(dict.fromkeys(new, NOTHING))
            return
        for scope, last in zip(new, await self._newest(new), strict=True):
            self._read.setdefault(scope, last)

    async def begin_all(self) -> int:
        """Start every stream; return the time before which all they hold was published.

        Raises:
            Unreachable: Redis does not answer.
        """
        now = await self._connection.now()
        await self.begin(await scope_names(self._connection))
        self.everything = True
        return now

    def forget(self, scopes: Collection[str]) -> None:
        """Nobody reads these streams any more."""
        for scope in scopes:
            self._read.pop(scope, None)
            self._hinted.discard(scope)

    async def check(self) -> None:
        """Go back to the end of streams that have lost their newest entries (R9).

        Everything is read again from there, and counts as hinted at.

        Raises:
            Unreachable: Redis does not answer.
        """
        now = await self._connection.now()
        known = list(self._read)
        for scope, last in zip(known, await self._newest(known), strict=True):
            if scope in self._read and place(last) < place(self._read[scope]):
                self._read[scope] = last
        if self.everything:
            known += await scope_names(self._connection)
        self.hint(known, now)

    @property
    def waiting(self) -> bool:
        """Whether there are streams to read."""
        return bool(self._ready())

    def _ready(self) -> list[str]:
        return [one for one in self._hinted if self.everything or one in self._read]

    async def grown(self) -> tuple[list[Entry], int]:
        """Return the new entries of streams that have grown, oldest first.

        And the time before which nothing of any stream is left unread.

        Raises:
            Unreachable: Redis does not answer. Nothing is lost.
        """
        scopes, bound = self._ready(), self.hinted_at
        before = {scope: self._read.get(scope, NOTHING) for scope in scopes}
        self._hinted.difference_update(scopes)
        try:
            found = await self._connection.ask_all(
                (
                    "XRANGE",
                    ScopeKeys(one).events,
                    f"({before[one]}",
                    "+",
                    "COUNT",
                    BATCH,
                )
                for one in scopes
            )
        except BaseException:
            self._hinted.update(scopes)
            raise
        entries: list[Entry] = []
        for scope, rows in zip(scopes, found, strict=True):
            if self._read.get(scope, NOTHING) != before[scope] or not rows:
                continue
            read = entries_of(scope, rows)
            entries += read
            self._read[scope] = read[-1].id
            if len(rows) == BATCH:
                self._hinted.add(scope)
                bound = min(bound, read[-1].place[0])
        return sorted(entries, key=lambda entry: entry.place), bound

    async def _newest(self, scopes: Sequence[str]) -> list[str]:
        found = await self._connection.ask_all(
            ("XREVRANGE", ScopeKeys(scope).events, "+", "-", "COUNT", 1)
            for scope in scopes
        )
        return [rows[0][0].decode() if rows else NOTHING for rows in found]


def entries_of(
    scope: str, rows: Sequence[tuple[bytes, dict[bytes, bytes]]]
) -> list[Entry]:
    """Read rows of a stream."""
    return [
        Entry(scope, id.decode(), fields.get(b"message", b"")) for id, fields in rows
    ]
