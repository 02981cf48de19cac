"""The feed of one gateway process: from Redis's channels to every reader."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress

import structlog

from broker.connection import Connection
from broker.gateway.live import news
from broker.gateway.live.channels import EVERY_SCOPE, Channels, of_scope
from broker.gateway.live.news import PAUSED, PROGRESS, REGISTERED, RESUMED, Told, Wanted
from broker.gateway.live.reader import Reader
from broker.gateway.live.readers import Readers
from broker.gateway.live.states import active_fetches, states_of
from broker.gateway.live.tails import Entry, Tails
from broker.keys import ScopeKeys, windows
from broker.scopes import scope_names
from broker.tasks import cancel_all
from schemas import codec
from schemas.errors import Failure, InvalidMessage
from schemas.events import WindowMessage
from schemas.names import is_reserved

log = structlog.get_logger()

SIGN_SECONDS = 15.0
"""How often a reader without news gets a sign of life, and streams are looked at."""
AWAY_SECONDS = 0.5
"""How long Redis is left alone after it did not answer."""


class Feed:
    """Tells readers what happens, with one pub/sub connection for all of them.

    A reader hears the last state of each fetch, whatever was coalesced on the way, and
    each event of a stream once.
    """

    def __init__(self, connection: Connection) -> None:
        self.process = secrets.token_hex(6)
        self.readers = Readers()
        self.tails = Tails(connection)
        self._connection = connection
        self._channels = Channels(
            connection, windows(self.process), self._hear, self._resynchronise
        )
        self._paused: dict[str, set[str]] = {}
        self._stale = False
        self._kicked = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = ""

    async def join(self, wanted: Wanted) -> Reader:
        """Begin to tell a reader; ``leave`` ends it.

        Raises:
            Unreachable: Redis does not answer.
        """
        if not self._tasks:
            self._tasks += [
                asyncio.create_task(self._read_tails(), name="tails"),
                asyncio.create_task(self._give_signs(), name="signs"),
            ]
        reader = Reader(wanted, self.process)
        self.readers.expect(wanted.scope)
        try:
            await self._channels.want(_channels(wanted))
            if wanted.scope is None:
                reader.since = str(await self.tails.begin_all())
            else:
                await self.tails.begin([wanted.scope])
                reader.since = self.tails.position(wanted.scope) or ""
        except BaseException:
            await self._unwant(wanted)
            raise
        # From here to the end there is no await: the position is that of the reader.
        reader.positions = self.tails.positions() if wanted.scope is None else {}
        self.readers.add(reader)
        if self._closed:
            reader.end(self._closed)
        self._kicked.set()
        return reader

    async def leave(self, reader: Reader) -> None:
        """Tell it no more."""
        self.readers.remove(reader)
        await self._unwant(reader.wanted)

    async def _unwant(self, wanted: Wanted) -> None:
        self.readers.expect(wanted.scope, -1)
        unread = [one for one in self._read() if not self.readers.expected(one)]
        self.tails.everything = self.readers.expected(None)
        self.tails.forget(unread)
        for scope in unread:
            self._paused.pop(scope, None)
        await self._channels.unwant(_channels(wanted))

    def _read(self) -> Iterable[str]:
        return {*self.tails.positions(), *self._paused}

    def stop(self, reason: str) -> None:
        """End every reader, with a last message."""
        self._closed = reason
        for reader in self.readers:
            reader.end(reason)

    async def aclose(self) -> None:
        """Stop for good."""
        self.stop("stopping")
        await cancel_all(self._tasks)
        await self._channels.aclose()

    def _hear(self, channel: str, data: bytes) -> None:
        """Take one message; what others write wrongly must not end the feed."""
        try:
            self._take(channel, data)
        except InvalidMessage as error:
            log.warning("message_ignored", channel=channel, error=str(error))

    def _take(self, channel: str, data: bytes) -> None:
        _, scope, kind = channel.split(":", 2)
        if channel == windows(self.process):
            self._answer_click(WindowMessage.decode(data))
        elif is_reserved(scope):
            return
        elif kind == "progress":
            self.tell_state(scope, codec.decode(data))
        elif kind == "events":
            at = news.event_named(data)[2] if self.readers.expected(None) else 0
            self.tails.hint([scope], at)
            self._kicked.set()
        elif kind == "clients":
            message = WindowMessage.decode(data).model_copy(update={"scope": scope})
            told = news.window(message)
            for reader in self.readers.of(scope, message.uid):
                reader.offer(told)

    def _answer_click(self, message: WindowMessage) -> None:
        """A window for one of our clients; if that has gone, for all of its scope."""
        reader = self.readers.client(message.client)
        if reader is None or not reader.offer(news.window(message)):
            everybody = message.model_copy(update={"client": ""})
            task = asyncio.create_task(self._publish_window(everybody))
            self._tasks.append(task)
            task.add_done_callback(self._tasks.remove)

    async def _publish_window(self, message: WindowMessage) -> None:
        channel = ScopeKeys(message.scope).clients
        with suppress(Failure):
            await self._connection.ask("PUBLISH", channel, message.encode())

    def tell_state(self, scope: str, told: Told) -> None:
        """Tell whom it concerns how a fetch stands now."""
        readers = list(self.readers.of(scope, str(told.get("uid"))))
        changes = [PROGRESS, *self._changes(scope, told)]
        for told_as in [news.snapshot(type, told) for type in changes]:
            for reader in readers:
                reader.offer(told_as)

    def _changes(self, scope: str, told: Told) -> list[str]:
        changes = [REGISTERED] if str(told.get("version")) == "1" else []
        known = self._paused.setdefault(scope, set())
        uid, paused = str(told.get("uid")), told.get("paused") in (True, "1")
        if paused and uid not in known:
            known.add(uid)
            changes.append(PAUSED)
        elif not paused and uid in known:
            known.discard(uid)
            if not told.get("result"):
                changes.append(RESUMED)
        return changes

    def note(self, scope: str, told: Told) -> None:
        """Remember of a state that a reader gets anyway whether it is paused."""
        self._changes(scope, told)

    def _resynchronise(self) -> None:
        self._stale = True
        self._kicked.set()

    async def _read_tails(self) -> None:
        """Read what has grown; after a reconnection, everything (R25)."""
        while True:
            await self._kicked.wait()
            self._kicked.clear()
            try:
                if self._stale:
                    await self.tails.check()
                    await self._tell_present()
                    self._stale = False
                while self.tails.waiting:
                    self._tell_events(*await self.tails.grown())
            except Failure as error:
                log.debug("feed_waits", error=str(error))
                await asyncio.sleep(AWAY_SECONDS)
                self._kicked.set()

    def _tell_events(self, entries: list[Entry], bound: int) -> None:
        for entry in entries:
            type, uid, _ = news.event_named(entry.message)
            ours = news.lifecycle(entry.id, entry.id, entry.message, type)
            for reader in self.readers.of_scope(entry.scope, uid):
                reader.offer(ours)
            # Those of the same millisecond may still come: it is told again then.
            until = str(min(entry.place[0], bound or entry.place[0]))
            key = f"{entry.scope} {entry.id}"
            theirs = news.lifecycle(until, key, entry.message, type)
            for reader in self.readers.of_all():
                reader.offer(theirs)

    async def _tell_present(self) -> None:
        """Messages may have been missed: tell each fetch's state as it is now."""
        everything = self.readers.expected(None)
        known = list(self.readers.scopes())
        for scope in await scope_names(self._connection) if everything else known:
            watched = self.readers.watched(scope)
            whole = everything or self.readers.has_whole(scope)
            active = await active_fetches(self._connection, scope) if whole else []
            async for told in self._states(scope, {*active, *watched}):
                self.tell_state(scope, told)

    async def _states(self, scope: str, uids: Iterable[str]) -> AsyncIterator[Told]:
        async for states in states_of(self._connection, scope, list(uids)):
            for told in states:
                yield told

    async def _give_signs(self) -> None:
        while True:
            await asyncio.sleep(SIGN_SECONDS)
            self.tails.hint(self.tails.positions(), 0)  # whatever hint was lost (R25)
            self._kicked.set()
            for reader in self.readers:
                scope = reader.wanted.scope
                told = self.tails.position(scope) if scope is not None else None
                reader.sign(news.mark(told))


def _channels(wanted: Wanted) -> tuple[str, str, str]:
    return of_scope(EVERY_SCOPE.scope if wanted.scope is None else wanted.scope)
