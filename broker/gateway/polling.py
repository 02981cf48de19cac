"""Waiting for deliveries on behalf of a caller that pulls."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from fastapi import Request

from broker.gateway.gateway import Gateway
from broker.gateway.live import LIFECYCLE, Reader, Wanted
from broker.pull import Pull, Pulled

LOOK_SECONDS = 0.5
"""How often what is due again is looked for; what is new wakes at once."""


async def poll(
    gateway: Gateway,
    request: Request,
    pull: Pull,
    *,
    scope: str,
    most: int,
    wait: float,
) -> list[Pulled]:
    """Take deliveries as soon as there are any, or none after ``wait`` seconds.

    What the caller does not wait for any more is handed back.

    Raises:
        Unreachable: Redis does not answer. What was taken comes again.
    """
    if not wait:
        return await _take(request, pull, most)
    reader = await gateway.feed.join(Wanted(scope, None, LIFECYCLE))
    deadline = asyncio.get_running_loop().time() + wait
    try:
        while not await request.is_disconnected():
            taken = await _take(request, pull, most)
            left = deadline - asyncio.get_running_loop().time()
            if taken or left <= 0 or reader.ending:
                return taken
            await _news(reader, min(left, LOOK_SECONDS))
        return []
    finally:
        await gateway.feed.leave(reader)


async def _take(request: Request, pull: Pull, most: int) -> list[Pulled]:
    taken = await pull.take(most)
    if taken and await request.is_disconnected():
        await pull.give_back(taken)
        return []
    return taken


async def _news(reader: Reader, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await reader.next()
