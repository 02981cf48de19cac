"""Has a former holder acknowledge what is another's: by construction, not by chance."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.torture.history import has_ended
from tests.torture.relay import Relay
from tests.torture.trap import Trap

_POLL = 0.02
_CATCHING = 3.0
"""Seconds in which a handler begins, if there is anything left to handle."""
_PATIENCE = 60.0
Holder = Callable[[str], Awaitable[int | None]]
"""Tells the process that has a delivery now, or had it last."""


@dataclass(slots=True)
class Place:
    """Where one consumer at a time is."""

    variables: dict[str, str]
    relay: Relay
    process: int = 0
    away: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while its consumer is stopped, parted or replaced."""


class LateAcknowledgement:
    """Stops a consumer in a handler until another has its delivery, then wakes it."""

    def __init__(self, directory: Path, holder: Holder) -> None:
        """``directory`` is where the histories are."""
        self._directory = directory
        self._trap = Trap(directory)
        self._holder = holder
        self._one = asyncio.Lock()

    async def happen(
        self, places: list[Place], patience: float = _CATCHING
    ) -> tuple[int, float] | None:
        """Have it happen once; return the process and when it began.

        None if no handler began for so long, or its process was killed.

        Raises:
            TimeoutError: nobody took the delivery over, or what became of it was not
                told to who had it.
        """
        async with self._one:
            began = time.monotonic()
            self._trap.set()
            if not await _soon(self._caught, patience) and self._trap.withdraw():
                return None
            await _until(self._caught, "what was caught was not told")
            try:
                return await self._wake(places, began)
            finally:
                self._trap.release()

    async def _wake(
        self, places: list[Place], began: float
    ) -> tuple[int, float] | None:
        caught = self._trap.caught()
        assert caught is not None
        process, delivery = caught
        for place in places:
            if place.process == process:
                if place.away.locked():  # it is to leave, or was killed
                    break
                async with place.away:
                    await self._outlive(process, delivery)
                    return process, began
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGCONT)
        return None

    async def _outlive(self, process: int, delivery: str) -> None:
        async def told() -> bool:
            return has_ended(self._directory, process, delivery)

        async def taken_over() -> bool:
            # One that was stopped when it was caught is woken too early.
            return await self._holder(delivery) not in (None, process) or await told()

        try:
            await _until(taken_over, f"{delivery} of {process} was not taken over")
        finally:
            os.kill(process, signal.SIGCONT)
        await _until(told, f"{process} did not come to the end of {delivery}")

    async def _caught(self) -> bool:
        return self._trap.caught() is not None


async def _soon(question: Callable[[], Awaitable[bool]], seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            while not await question():  # noqa: ASYNC110 - of other processes
                await asyncio.sleep(_POLL)
    except TimeoutError:
        return False
    return True


async def _until(question: Callable[[], Awaitable[bool]], otherwise: str) -> None:
    if not await _soon(question, _PATIENCE):
        raise TimeoutError(otherwise)
