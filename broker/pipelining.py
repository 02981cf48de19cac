"""Commands that many tasks give at the same time travel as one pipeline.

Whoever asks first opens a pipeline at the loop's next turn; whoever asks while it is
under way joins the next one. A round trip, and the client's work for it, is shared by
all that wait for Redis at that moment, and the busier a process is, the more share it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from broker.scripts import Argument
from broker.tasks import cancel_all

MOST = 256
"""Commands in one pipeline, so that the first does not wait long for the last."""

_Waiting = tuple[tuple[Argument, ...], "asyncio.Future[Any]"]


class Pipelining:
    """Sends commands in the order in which they were asked, each answered by itself.

    They may be repeated after a lost answer, all of a pipeline. A command goes out even
    if its asker is cancelled meanwhile.
    """

    def __init__(self, redis: Redis, patience: float) -> None:
        """``patience``: seconds for one pipeline to be answered."""
        self._redis = redis
        self._patience = patience
        self._waiting: list[_Waiting] = []
        self._sender: asyncio.Task[None] | None = None

    async def ask(self, *command: Argument) -> Any:
        """Return the answer to one command.

        Raises:
            RedisError: the server refused it, or does not answer.
            TimeoutError: it took longer than ``patience``.
        """
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((command, answer))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_all(), name="pipelining")
        return await answer

    async def aclose(self) -> None:
        """Give up what is under way: those who wait for it are cancelled."""
        if self._sender is not None:
            await cancel_all([self._sender])
        for _, answer in self._waiting:
            answer.cancel()
        self._waiting.clear()

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                batch = self._waiting[:MOST]
                del self._waiting[:MOST]
                await self._send(batch)
        finally:
            self._sender = None

    async def _send(self, batch: Sequence[_Waiting]) -> None:
        try:
            async with asyncio.timeout(self._patience):
                replies = await self._exchange([command for command, _ in batch])
        except BaseException as error:
            for _, answer in batch:
                if not answer.done():
                    _refuse(answer, error)
            if not isinstance(error, Exception):
                raise
            return
        for (_, answer), reply in zip(batch, replies, strict=True):
            if answer.done():
                continue  # its asker was cancelled
            if isinstance(reply, Exception):
                answer.set_exception(reply)
            else:
                answer.set_result(reply)

    async def _exchange(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            return await pipe.execute(raise_on_error=False)


def _refuse(answer: asyncio.Future[Any], error: BaseException) -> None:
    if isinstance(error, Exception):
        answer.set_exception(error)
    else:
        answer.cancel()
