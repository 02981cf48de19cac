"""What one reader is sent, from its first message to its last."""

from __future__ import annotations

from collections.abc import AsyncIterator

import structlog

from broker.connection import Connection
from broker.gateway.live import news
from broker.gateway.live.feed import Feed
from broker.gateway.live.reader import Reader
from broker.gateway.live.states import active_fetches, states_of
from broker.gateway.live.tails import BATCH, entries_of, place
from broker.keys import ScopeKeys
from broker.scopes import scope_names
from schemas.errors import Failure

log = structlog.get_logger()


async def tell(
    feed: Feed, connection: Connection, reader: Reader, after: str | None
) -> AsyncIterator[bytes]:
    """Yield who the reader is, what it missed, how all stands, and then what happens.

    ``after`` is the id from which it resumes.
    """
    yield news.greeting(reader.client, after or reader.since)
    try:
        if after is not None:
            async for chunk in _missed(connection, reader, after):
                yield chunk
            yield news.mark(reader.since)
        async for chunk in _present(feed, connection, reader):
            yield chunk
        while chunk := await reader.next():
            yield chunk
    except Failure as error:  # it comes again, with the id that it has
        log.debug("reader_ends", error=str(error))
        reader.end("unreachable")
    yield news.farewell(reader.ending)


async def _missed(
    connection: Connection, reader: Reader, after: str
) -> AsyncIterator[bytes]:
    """The events between ``after`` and where the reader joined."""
    scope = reader.wanted.scope
    if scope is not None:
        async for chunk in _between(
            connection, reader, scope, f"({after}", reader.since
        ):
            yield chunk
        return
    # These have no ids: who drops out on the way begins with all of them again.
    for one in await scope_names(connection):
        until = reader.positions.get(one)
        if until is not None:
            async for chunk in _between(connection, reader, one, after, until):
                yield chunk


async def _between(
    connection: Connection, reader: Reader, scope: str, start: str, until: str
) -> AsyncIterator[bytes]:
    wanted, stream = reader.wanted, ScopeKeys(scope).events
    numbered = wanted.scope is not None
    while True:
        if place(start.lstrip("(")) > place(until):
            return
        rows = await connection.ask("XRANGE", stream, start, until, "COUNT", BATCH)
        told: list[bytes] = []
        for entry in entries_of(scope, rows):
            start = f"({entry.id}"
            type, uid, _ = news.event_named(entry.message)
            if type in wanted.types and wanted.uid in (None, uid):
                id = entry.id if numbered else None
                told.append(news.lifecycle(id, entry.id, entry.message, type).encoded())
        if told:
            yield b"".join(told)
        if len(rows) < BATCH:
            return


async def _present(
    feed: Feed, connection: Connection, reader: Reader
) -> AsyncIterator[bytes]:
    """How each active fetch stands, or the one that is read."""
    wanted = reader.wanted
    if news.PROGRESS not in wanted.types:
        return
    scopes = [wanted.scope] if wanted.scope else await scope_names(connection)
    for scope in scopes:
        uids = [wanted.uid] if wanted.uid else await active_fetches(connection, scope)
        async for states in states_of(connection, scope, uids):
            told = [news.snapshot(news.PROGRESS, state) for state in states]
            for state in states:
                feed.note(scope, state)
            if told:
                yield b"".join(one.encoded() for one in told)
