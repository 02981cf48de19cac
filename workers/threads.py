"""Threads for plain listeners: as many as may be needed, and none that is waited for.

The event loop's own executor has few threads, which other code needs too, and a process
cannot end before they do: one listener that hangs would keep it for ever.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")
Outcome = tuple[T, None] | tuple[None, BaseException]


class Threads:
    """Runs functions beside the event loop, at most ``limit`` at a time."""

    def __init__(self, limit: int) -> None:
        self._free = asyncio.Semaphore(limit)
        self._loop = asyncio.get_running_loop()

    async def run(self, function: Callable[[], T]) -> T:
        """Call ``function`` in a thread, with this task's context; return its result.

        Cancelled, this returns at once. The thread goes on, and keeps its place, until
        it ends or the process does.
        """
        await self._free.acquire()
        context = contextvars.copy_context()
        # Errors are values here: a future refuses to carry StopIteration.
        ended: Future[Outcome[T]] = Future()
        ended.set_running_or_notify_cancel()
        ended.add_done_callback(self._release)
        work = threading.Thread(
            target=lambda: ended.set_result(_outcome(context, function)),
            name="listener",
            daemon=True,
        )
        work.start()
        result, error = await asyncio.wrap_future(ended)
        if error is not None:
            raise error
        return result  # type: ignore[return-value]

    def _release(self, _: Future[Outcome[T]]) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits for a place
            self._loop.call_soon_threadsafe(self._free.release)


def _outcome(context: contextvars.Context, function: Callable[[], T]) -> Outcome[T]:
    try:
        return context.run(function), None
    except BaseException as error:
        return None, error
