"""Ending background tasks for certain."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any


async def cancel_all(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks and return when all have ended, whatever they raised.

    A cancellation is repeated: before Python 3.12, one that arrives together with the
    result that ``wait_for`` waits for is lost, and libraries use ``wait_for``.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        ended, pending = await asyncio.wait(pending, timeout=0.5)
        for task in ended:
            if not task.cancelled():
                task.exception()  # looked at, so that it is not reported as lost
