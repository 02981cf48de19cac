"""A process that publishes events: clicks on background fetches, and their ends.

It writes down each call before it is made, and its answer. A call without an answer may
have published something or not.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from broker.manager import BackgroundFetchManager, connect
from broker.registration import BackgroundFetchRegistration
from broker.settings import Settings
from schemas.errors import Failure, InvalidState
from tests.torture.history import History, Progress

SCOPE = "torture"
FETCH_EVENTS = 20
"""Events of one background fetch, about: so many follow each other in order (R19)."""
_AT_ONCE = 4
SUBSCRIBERS = 2
_AHEAD = 1000
"""Deliveries that nobody has handled yet: faults are to meet publishers, too."""
_PAUSE = 0.05
T = TypeVar("T")


def publish() -> int:
    """Publish as many events as ``EVENTS`` says, and end; return the exit code."""
    history = History(Path(os.environ["HISTORY"], f"{os.getpid()}.history"))
    choose = random.Random(os.environ["SEED"])
    asyncio.run(_publish(history, int(os.environ["EVENTS"]), choose))
    return 0


async def _publish(history: History, events: int, choose: random.Random) -> None:
    settings = Settings.load()
    while True:
        try:
            async with connect(scope=SCOPE, settings=settings) as manager:
                await _Publisher(manager, history, events, choose).run()
                return
        except Failure:  # a start without Redis fails, and is repeated
            await asyncio.sleep(_PAUSE)


class _Publisher:
    def __init__(
        self,
        manager: BackgroundFetchManager,
        history: History,
        events: int,
        choose: random.Random,
    ) -> None:
        self._manager, self._history, self._choose = manager, history, choose
        self._left = events
        self._calls = itertools.count()
        self._progress = Progress(Path(os.environ["HISTORY"]))

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(_AT_ONCE):
                tasks.create_task(self._stories())

    async def _stories(self) -> None:
        while self._left > 0:
            clicks = min(self._left - 1, self._choose.randrange(2 * FETCH_EVENTS))
            late = self._choose.random() < 0.2 and clicks > 0
            self._left -= clicks + 1
            await self._story(clicks, late)
            while self._is_ahead():  # noqa: ASYNC110 - of other processes
                await asyncio.sleep(_PAUSE)

    async def _story(self, clicks: int, late: bool) -> None:
        """One background fetch: clicks, its end, and sometimes a click after that."""
        id = f"{os.environ['NAME']}-{next(self._calls)}"
        fetch = await self._call("fetch", id, lambda: self._register(id), _nothing)
        if fetch is None:
            self._left += clicks + 1  # registered or not: nobody speaks of it again
            return
        remaining = iter(range(clicks - late))

        async def click() -> None:
            for _ in remaining:
                await self._call("click", fetch.uid, fetch.click, _name)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(2):
                tasks.create_task(click())
        while await self._call("abort", fetch.uid, fetch.abort, _end) is None:  # noqa: ASYNC110
            await asyncio.sleep(_PAUSE)
        if late:
            await self._call("click", fetch.uid, fetch.click, _name)

    async def _register(self, id: str) -> BackgroundFetchRegistration:
        return await self._manager.fetch(id, "https://files.example/1")

    async def _call(
        self,
        what: str,
        about: str,
        call: Callable[[], Awaitable[T]],
        name: Callable[[T], str],
    ) -> T | None:
        """Make a call; None if it got no answer, or that its fetch is gone."""
        number = next(self._calls)
        self._history.write("call", number, what, about)
        try:
            answer = await call()
        except Failure:
            return None
        except InvalidState:
            self._history.write("gone", number)
            return None
        self._history.write("answer", number, name(answer))
        return answer

    def _is_ahead(self) -> bool:
        self._progress.look()
        owed = self._progress.published * SUBSCRIBERS
        return owed - self._progress.handled > _AHEAD


def _nothing(_: object) -> str:
    return "-"


def _name(dispatch: Any) -> str:
    return str(dispatch.event)


def _end(ended: bool) -> str:
    return "backgroundfetchabort" if ended else "-"
