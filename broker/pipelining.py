"""Commands that many tasks give at the same time travel as one pipeline.

A round trip, and the client's work for it, is shared by all that wait for Redis at that
moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from redis.asyncio import Redis

from broker.scripts import Argument
from broker.together import Together

MOST = 256
"""Commands in one pipeline, so that the first does not wait long for the last."""


class Pipelining:
    """Sends commands in the order in which they were asked, each answered by itself.

    They may be repeated after a lost answer, all of a pipeline.
    """

    def __init__(self, redis: Redis, patience: float) -> None:
        """``patience``: seconds for one pipeline to be answered."""
        self._redis = redis
        self._patience = patience
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

    async def _exchange(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        async with (
            asyncio.timeout(self._patience),
            self._redis.pipeline(transaction=False) as pipe,
        ):
            for command in commands:
                pipe.execute_command(*command)
            return await pipe.execute(raise_on_error=False)
