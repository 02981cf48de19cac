"""What many tasks ask at the same time is sent together.

Whoever asks first has it sent at the loop's next turn; whoever asks while that is under
way joins the next batch. The busier a process is, the more share one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Generic, TypeVar

from redis.exceptions import ResponseError

from broker.tasks import cancel_all

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Send = Callable[[Sequence[Item]], Awaitable[Sequence[Answer | Exception]]]
"""Sends a batch; returns an answer, or an error, for each item of it in order."""


class Together(Generic[Item, Answer]):
    """Batches of at most so many items, one after the other, in the order asked.

    An item whose asker is cancelled before its batch begins is not sent; later, it is.
    """

    def __init__(self, send: Send[Item, Answer], most: int, name: str) -> None:
        """``most``: items in a batch, so that the first need not wait for many."""
        self._send = send
        self._most = most
        self._name = name
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._sender: asyncio.Task[None] | None = None

    async def ask(self, item: Item) -> Answer:
        """Return the answer to one item, or raise its error, or that of its batch."""
        return await self._put(item)

    async def ask_all(self, items: Iterable[Item]) -> list[Answer]:
        """The same for several, sent in one batch where that has room."""
        return await asyncio.gather(*map(self._put, items))

    def _put(self, item: Item) -> asyncio.Future[Answer]:
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_all(), name=self._name)
        return answer

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
                batch = self._waiting[: self._most]
                del self._waiting[: self._most]
                wanted = [(item, answer) for item, answer in batch if not answer.done()]
                if wanted:
                    await self._send_batch(wanted)
        finally:
            self._sender = None

    async def _send_batch(
        self, batch: Sequence[tuple[Item, asyncio.Future[Answer]]]
    ) -> None:
        try:
            replies = await self._send([item for item, _ in batch])
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


def _refuse(answer: asyncio.Future[Answer], error: BaseException) -> None:
    if isinstance(error, Exception):
        answer.set_exception(error)
    else:
        answer.cancel()


def or_one_by_one(send: Send[Item, Answer]) -> Send[Item, Answer]:
    """What Redis refuses of many is sent one by one: the others are not to suffer."""

    async def sent(items: Sequence[Item]) -> Sequence[Answer | Exception]:
        try:
            return await send(items)
        except ResponseError as error:
            if len(items) == 1:
                return [error]
        return [answer for item in items for answer in await sent([item])]

    return sent
