"""``event.once()``: do something once for all attempts to deliver an event.

The mark is written under the delivery's fence, after the block: nobody can write that
something is done and then die before doing it. So the block is repeated if the process
dies in it, or between its last line and the mark; it is never left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from broker.steps import Steps
from workers.answers import answered

T = TypeVar("T")


class Once:
    """A block that says whether it still has to do its work, and then that it has.

    ``async with`` on the event loop, ``with`` in the thread of a plain listener.
    """

    def __init__(
        self, steps: Steps, step: str, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._steps = steps
        self._step = step
        self._loop = loop
        self._first = False

    async def __aenter__(self) -> bool:
        self._first = not await answered(partial(self._steps.is_done, self._step))
        return self._first

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._first and kind is None:
            await answered(partial(self._steps.complete, self._step))

    def __enter__(self) -> bool:
        return self._wait(self.__aenter__())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._wait(self.__aexit__(kind, error, trace))

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            asyncio.get_running_loop()
        except RuntimeError:  # as it should be: a thread may wait, a loop may not
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        work.close()
        raise RuntimeError("use `async with event.once()` in an async listener")
