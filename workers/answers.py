"""Waiting for a Redis that is away, in calls that may be sent twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from schemas.errors import Unreachable

log = structlog.get_logger()
T = TypeVar("T")

PAUSE_SECONDS = 0.5


async def answered(call: Callable[[], Awaitable[T]]) -> T:
    """Call until Redis answers: what is fenced may be sent again (R22)."""
    while True:
        try:
            return await call()
        except Unreachable as error:
            log.warning("delivery_waits_for_redis", error=str(error))
        await asyncio.sleep(PAUSE_SECONDS)
