"""The sweep: bytes that no record names, left behind by crashes, are deleted (R16).

A file goes when it has not been written to for a day, two sweeps an hour apart found
that nothing in Redis names it, and the store belongs to this Redis alone: two servers
with one store cannot know of each other's records.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Collection, Iterable
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice

from anyio import to_thread

from broker.connection import Connection
from broker.keys import IDENTITY, FetchKeys, orphans, sweeping
from broker.settings import milliseconds
from broker.store import BlobStore
from schemas.errors import StorageError, Unreachable

AGE = timedelta(days=1)
"""A file written to since may have a writer that Redis has not heard of yet."""
APART = timedelta(hours=1)
"""Between the two sweeps that have to see an orphan, and between sweeps of a store."""
FORGOTTEN = timedelta(days=30)
CANDIDATES = 50_000
"""Files that one look through Redis decides about; bounds memory."""
BATCH = 500
# Wherever a message has the name of a blob, it is a text of just so many digits. Not
# decoding them makes every message count, those of newer versions included.
_NAME = re.compile(rb"(?=([0-9a-f]{32}))")


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep came to."""

    deleted: tuple[str, ...]
    """Orphans that are gone, or would be without ``dry_run``."""
    waiting: tuple[str, ...]
    """Orphans that another sweep has to see first."""


class Sweep:
    """Finds and deletes the orphans of one store. Any number may run at once."""

    def __init__(self, connection: Connection, store: BlobStore) -> None:
        self._connection = connection
        self._store = store

    async def due(self) -> bool:
        """Whether nobody has swept this store for an hour; if so, it is ours to do."""
        key, ttl = sweeping(self._store.id), milliseconds(APART)
        return bool(await self._connection.ask("SET", key, 1, "NX", "PX", ttl))

    async def run(self, *, dry_run: bool = False) -> Swept:
        """Delete every orphan that an earlier sweep saw, and note the others.

        ``dry_run`` neither deletes nor notes anything.

        Raises:
            Unreachable: Redis does not answer, or restarted meanwhile.
            StorageError: the store refuses, or does not belong to this Redis alone.
        """
        await self._check_tenants()
        files = iter(await to_thread.run_sync(self._store.sweepable, AGE))
        deleted: list[str] = []
        waiting: list[str] = []
        while some := await to_thread.run_sync(_take, files):
            await self._remove_named(some)
            for names in _batches(some):
                aged = await self._seen_before(names, note=not dry_run)
                if not dry_run:
                    await self._delete(aged)
                deleted += aged
                waiting += set(names) - set(aged)
        if not dry_run:
            await self._forget_all_but(waiting)
        return Swept(tuple(deleted), tuple(waiting))

    async def _check_tenants(self) -> None:
        tenants = await to_thread.run_sync(self._store.tenants)
        ours: bytes | None = await self._connection.ask("GET", IDENTITY)
        if ours is None or ours.decode() not in tenants:
            raise StorageError(
                f"no worker of this Redis has used the store {self._store.place}"
            )
        if others := sorted(tenants - {ours.decode()}):
            places = ", ".join(f"tenants/{other}" for other in others)
            raise StorageError(
                f"the store {self._store.place} is another Redis's too, whose "
                "bytes look like orphans from here; if that one is gone for good, "
                f"delete {places} there"
            )

    async def _remove_named(self, candidates: set[str]) -> None:
        """Take out every name that some message of some fetch has in it."""
        server = await self._server()
        async for row in self._rows():
            found = {name.decode() for name in _NAME.findall(row)}
            candidates -= found
        # Where a scan has got to means something to the very process that said it.
        if await self._server() != server:
            raise Unreachable("Redis restarted during a sweep: nothing was deleted")

    async def _server(self) -> str:
        return str((await self._connection.ask("INFO", "server"))["run_id"])

    async def _rows(self) -> AsyncIterator[bytes]:
        pattern, ends = FetchKeys.naming()
        scan = ("MATCH", pattern, "COUNT", BATCH)
        cursor = None
        while cursor != 0:
            cursor, keys = await self._connection.ask("SCAN", cursor or 0, *scan)
            for key in keys:
                if key.decode().endswith(ends):
                    async for row in self._rows_of(key):
                        yield row

    async def _rows_of(self, key: bytes) -> AsyncIterator[bytes]:
        cursor = None
        while cursor != 0:
            cursor, rows = await self._connection.ask(
                "HSCAN", key, cursor or 0, "COUNT", BATCH
            )
            for row in rows.values():
                yield row

    async def _seen_before(self, names: Collection[str], *, note: bool) -> list[str]:
        key = orphans(self._store.id)
        if note:
            times = milliseconds(APART), milliseconds(FORGOTTEN)
            aged = await self._connection.run("sight", [key], [*times, *names])
            return [name.decode() for name in aged]
        before = await self._connection.now() - milliseconds(APART)
        scores = await self._connection.ask("ZMSCORE", key, *names)
        return [
            name
            for name, first in zip(names, scores, strict=True)
            if first is not None and float(first) <= before
        ]

    async def _delete(self, names: Collection[str]) -> None:
        if names:
            await to_thread.run_sync(self._store.delete, names)

    async def _forget_all_but(self, waiting: Iterable[str]) -> None:
        """Of two sweeps in a row, each has to see an orphan."""
        key = orphans(self._store.id)
        noted: list[bytes] = await self._connection.ask("ZRANGE", key, 0, -1)
        gone = {name.decode() for name in noted} - set(waiting)
        for names in _batches(gone):
            await self._connection.ask("ZREM", key, *names)


def _take(files: Iterable[str]) -> set[str]:
    return set(islice(files, CANDIDATES))


def _batches(names: Iterable[str]) -> list[list[str]]:
    ordered = sorted(names)
    return [ordered[at : at + BATCH] for at in range(0, len(ordered), BATCH)]
