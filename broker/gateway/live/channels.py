"""One pub/sub connection for a whole process, whoever wants to hear what."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from broker.connection import Connection
from broker.keys import ScopeKeys
from broker.tasks import cancel_all
from schemas.errors import Failure, Unreachable

log = structlog.get_logger()

SHORTEST_PAUSE = 0.05
LONGEST_PAUSE = 2.0
"""Seconds between attempts to subscribe again."""
CONFIRM_SECONDS = 2.0
SILENCE_SECONDS = 15.0
"""After so long without a message the server is asked, and given as long again."""

EVERY_SCOPE = ScopeKeys("*")


class Channels:
    """Subscribes to channels and patterns while somebody wants them."""

    def __init__(
        self,
        connection: Connection,
        own: str,
        hear: Callable[[str, bytes], object],
        missed: Callable[[], object],
    ) -> None:
        """``hear`` gets each message of a channel once; ``own`` is always wanted.

        ``missed`` is called when messages may have been missed: at the start, and after
        each reconnection, once everything is subscribed.
        """
        self._redis = connection.blocking_client()
        self._own = own
        self._hear = hear
        self._missed = missed
        self._wanted: Counter[str] = Counter()
        self._confirmed: set[str] = set()
        self._news = asyncio.Condition()
        self._speaking = asyncio.Lock()
        self._pubsub: PubSub | None = None
        self._task: asyncio.Task[None] | None = None

    async def want(self, names: Sequence[str]) -> None:
        """Hear channels, or patterns with a ``*``, until ``unwant``.

        Returns once that is so, or soon: without pub/sub, states are read again later.
        """
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="channels")
        new = [name for name in names if not self._wanted[name]]
        self._wanted.update(names)
        await self._tell("subscribe", new)
        with suppress(TimeoutError):
            async with asyncio.timeout(CONFIRM_SECONDS), self._news:
                await self._news.wait_for(lambda: self._confirmed.issuperset(names))

    async def unwant(self, names: Sequence[str]) -> None:
        """Undo one ``want``."""
        self._wanted.subtract(names)
        unused = [name for name in names if not self._wanted[name]]
        for name in unused:
            del self._wanted[name]
        # Who wants one again before that is confirmed waits for what comes after it.
        self._confirmed.difference_update(unused)
        await self._tell("unsubscribe", unused)

    async def aclose(self) -> None:
        """Stop hearing."""
        if self._task is not None:
            await cancel_all([self._task])
        await self._redis.aclose()

    async def _tell(self, verb: str, names: Sequence[str]) -> None:
        """Change what is heard; where that fails, reconnecting does it."""
        if self._pubsub is None:
            return
        async with self._speaking:
            with suppress(RedisError, OSError):
                for command, some in _sorted(names):
                    if some:
                        await getattr(self._pubsub, command + verb)(*some)

    async def _run(self) -> None:
        pause = SHORTEST_PAUSE
        while True:
            try:
                async with self._redis.pubsub() as pubsub:
                    await self._receive(pubsub)
            except (RedisError, OSError, Failure) as error:
                if self._own in self._confirmed:
                    pause = SHORTEST_PAUSE
                log.debug("channels_reconnect", error=str(error), after=pause)
            finally:
                self._pubsub = None
                self._confirmed.clear()
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _receive(self, pubsub: PubSub) -> None:
        async with self._speaking:
            self._pubsub = pubsub
            # Our own comes last: once it is confirmed, everything is.
            for command, some in _sorted(list(self._wanted)):
                if some:
                    await getattr(pubsub, command + "subscribe")(*some)
            await pubsub.subscribe(self._own)
        silent = False
        while True:
            message = await pubsub.get_message(timeout=SILENCE_SECONDS)
            if message is not None:
                silent = False
                await self._take(message)
            elif silent:
                raise Unreachable("the pub/sub connection is dead")
            else:
                silent = True
                async with self._speaking:
                    await pubsub.ping()

    async def _take(self, message: dict[str, object]) -> None:
        type = message["type"]
        if type in ("message", "pmessage"):
            channel, data = message["channel"], message["data"]
            assert isinstance(channel, bytes)
            assert isinstance(data, bytes)
            name = channel.decode()
            # Who wants the channel and the pattern is told by the server twice.
            if type == "pmessage" or _pattern(name) not in self._confirmed:
                self._hear(name, data)
        elif type in ("subscribe", "psubscribe", "unsubscribe", "punsubscribe"):
            told = message["channel"]
            assert isinstance(told, bytes)
            await self._confirm(told.decode(), heard="un" not in str(type))

    async def _confirm(self, name: str, *, heard: bool) -> None:
        if heard:
            self._confirmed.add(name)
        else:
            self._confirmed.discard(name)
        if name == self._own:
            self._missed()
        async with self._news:
            self._news.notify_all()


def of_scope(scope: str) -> tuple[str, str, str]:
    """The channels of a scope."""
    keys = ScopeKeys(scope)
    return keys.progress, keys.events, keys.clients


def _pattern(channel: str) -> str:
    prefix, _, kind = channel.rpartition(":")
    return f"{prefix.partition(':')[0]}:*:{kind}"


def _sorted(names: Sequence[str]) -> tuple[tuple[str, list[str]], ...]:
    patterns = [name for name in names if "*" in name]
    return ("p", patterns), ("", [name for name in names if "*" not in name])
