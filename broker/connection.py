"""One client of Redis or Valkey: where it is, and how its errors are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import OutOfMemoryError, ResponseError
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from broker.packing import packing
from broker.pipelining import DEMOTED, Pipelining
from broker.scripts import Argument, script
from schemas.errors import ConfigError, QuotaExceeded, Unreachable

ANSWER_SECONDS = 10.0

# What a server answers that is away for now: a group went with its newest writes (R9),
# it became a replica under a blocked command, another client's script holds it up, it
# cannot write its log, or it has too few replicas.
_AWAY = ("NOGROUP", "UNBLOCKED", "BUSY ", "MISCONF", "NOREPLICAS")


def masked(url: str) -> str:
    """The URL as it may be shown: without its password."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return urlunsplit(parts._replace(netloc="***@" + parts.netloc.rsplit("@", 1)[1]))


@contextmanager
def told_apart(url: str) -> Iterator[None]:
    """Turn the client's errors into ours.

    Raises:
        Unreachable: the server does not answer, refuses commands for now, as one does
            that loads its data or follows another, or has lost the group that is read.
        QuotaExceeded: the server is at its ``maxmemory``.
    """
    try:
        yield
    except OutOfMemoryError as error:
        raise QuotaExceeded(f"Redis at {masked(url)} is at its maxmemory") from error
    except DEMOTED as error:
        raise Unreachable(f"Redis at {masked(url)} is a read-only replica") from error
    except ResponseError as error:
        if not str(error).startswith(_AWAY):
            raise
        raise Unreachable(f"Redis at {masked(url)} cannot serve: {error}") from error
    except (RedisConnectionError, RedisTimeoutError, OSError) as error:
        raise Unreachable(f"no Redis at {masked(url)}: {error}") from error


class Connection:
    """A pool of connections for commands that answer at once.

    A command is repeated after a lost answer, which is harmless: reads, and scripts
    that are idempotent (R22). Blocking reads take a client of their own.
    """

    def __init__(self, url: str) -> None:
        """Does not connect yet.

        Raises:
            ConfigError: ``url`` is no Redis URL.
        """
        self.url = url
        self.redis = self._client(retries=3)
        self._pipelining = Pipelining(self.redis, ANSWER_SECONDS)

    def _client(self, *, retries: int) -> Redis:
        try:
            pool = BlockingConnectionPool.from_url(
                self.url,
                max_connections=32,
                timeout=ANSWER_SECONDS,
                # The client's own timeout would lose cancellations: it sends under
                # wait_for(), which does so before Python 3.12. See answering().
                socket_timeout=None,
                socket_connect_timeout=5.0,
                health_check_interval=30,
                retry=Retry(ExponentialWithJitterBackoff(cap=0.5, base=0.02), retries),
            )
        except ValueError as error:
            raise ConfigError(
                f"{masked(self.url)!r} is no Redis URL: {error}; "
                "use redis://HOST:PORT/DB, rediss:// or unix:///PATH"
            ) from error
        pool.connection_class = packing(pool.connection_class)
        return Redis.from_pool(pool)

    def blocking_client(self) -> Redis:
        """A client for one consumer's blocking reads; nothing is repeated."""
        return self._client(retries=0)

    @asynccontextmanager
    async def answering(self, block: timedelta = timedelta(0)) -> AsyncIterator[None]:
        """Expect commands to be answered within ten seconds, beyond those of ``block``.

        Raises:
            Unreachable: they were not. They may have been carried out.
        """
        try:
            with told_apart(self.url):
                async with asyncio.timeout(ANSWER_SECONDS + block.total_seconds()):
                    yield
        except Unreachable as error:
            if isinstance(error.__cause__, DEMOTED):
                # Its successor may have its address by now: connect anew.
                await self.redis.connection_pool.disconnect(inuse_connections=False)
            raise

    async def run(
        self, name: str, keys: Sequence[str], arguments: Sequence[Argument] = ()
    ) -> Any:
        """Run the script ``name``; text in the reply is bytes.

        Raises:
            Unreachable: the server does not answer.
        """
        async with self.answering():
            return await script(name).run(self._pipelining.ask, keys, arguments)

    async def ask(self, *command: Argument) -> Any:
        """Send one command that may be repeated; text in the reply is bytes.

        Raises:
            Unreachable: the server does not answer.
        """
        async with self.answering():
            return await self._pipelining.ask(*command)

    async def ask_all(self, commands: Iterable[tuple[Argument, ...]]) -> list[Any]:
        """Send several commands together that may be repeated, in this order.

        Raises:
            Unreachable: the server does not answer.
        """
        async with self.answering():
            return await self._pipelining.ask_all(commands)

    async def now(self) -> int:
        """Milliseconds since the epoch by the server's clock, which alone decides."""
        seconds, micros = await self.ask("TIME")
        now: int = seconds * 1000 + micros // 1000
        return now

    async def ping(self) -> None:
        """Make sure that the server answers.

        Raises:
            Unreachable: it does not.
        """
        await self.ask("PING")

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pipelining.aclose()
        await self.redis.aclose()
