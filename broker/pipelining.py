"""Commands that many tasks give at the same time travel as one pipeline.

A round trip, and the client's work for it, is shared by all that wait for Redis at that
moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import MasterDownError, ReadOnlyError, ResponseError

from broker.scripts import Argument
from broker.together import Together

MOST = 256
"""Commands in one pipeline, so that the first does not wait long for the last."""
DEMOTED = (ReadOnlyError, MasterDownError)
"""What a server answers that was its fleet's primary, and follows another now."""


class Pipelining:
    """Sends commands in the order in which they were asked, each answered by itself.

    They may be repeated after a lost answer, all of a pipeline. They have a connection
    of their own: to lend one for each pipeline costs more than the exchange.
    """

    def __init__(self, redis: Redis, patience: float | None) -> None:
        """``patience``: seconds for one pipeline to be answered, or without end."""
        self._redis = redis
        self._patience = patience
        self._connection: AbstractConnection | None = None
        self._commands: Together[tuple[Argument, ...], Any] = Together(
            self._exchange, MOST, "pipelining"
        )

    async def ask(self, *command: Argument) -> Any:
        """Return the answer to one command.

        Raises:
            RedisError: the server refused it, or does not answer.
            TimeoutError: it took longer than ``patience``.
        """
        return await self._commands.ask(command)

    async def ask_all(self, commands: Iterable[tuple[Argument, ...]]) -> list[Any]:
        """Return the answers to several commands, of which none waits for another."""
        return await self._commands.ask_all(commands)

    async def aclose(self) -> None:
        """Give up what is under way: those who wait for it are cancelled."""
        await self._commands.aclose()
        if self._connection is not None:
            await self._connection.disconnect()
            await self._redis.connection_pool.release(self._connection)
            self._connection = None

    async def _exchange(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        async with asyncio.timeout(self._patience):
            connection = self._connection = self._connection or await self._lent()
            return await connection.retry.call_with_retry(
                partial(self._converse, connection, commands),
                lambda _: connection.disconnect(nowait=True),
            )

    async def _lent(self) -> AbstractConnection:
        pool: Any = self._redis.connection_pool  # its method is not typed
        lent: AbstractConnection = await pool.get_connection()
        return lent

    async def _converse(
        self, connection: AbstractConnection, commands: Sequence[tuple[Argument, ...]]
    ) -> list[Any]:
        """Send commands and read an answer to each; a connection that breaks is anew.

        Not asked whether it is sound before: what is lost is sent again.
        """
        packed = connection.pack_commands(commands)
        await connection.send_packed_command(packed, check_health=False)
        answers = [await self._answer(connection, name) for name, *_ in commands]
        if any(isinstance(answer, DEMOTED) for answer in answers):
            await connection.disconnect()  # its successor may have its address by now
        return answers

    async def _answer(self, connection: AbstractConnection, name: Argument) -> Any:
        try:
            answer = await connection.read_response()
        except ResponseError as error:
            return error
        read = self._redis.response_callbacks.get(str(name))
        return read(answer) if read else answer
