"""Threads for plain listeners: enough of them, bounded, and none is waited for."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from functools import partial

import pytest

from workers.threads import Threads

MANY = 40
PATIENCE = 30.0
COLOUR: ContextVar[str] = ContextVar("colour")


async def test_as_many_functions_run_at_once_as_the_limit_says() -> None:
    """More than the event loop's own executor has."""
    threads, barrier = Threads(MANY), threading.Barrier(MANY)

    async with asyncio.timeout(PATIENCE):
        met = await asyncio.gather(
            *(threads.run(partial(barrier.wait, PATIENCE)) for _ in range(MANY))
        )

    assert sorted(met) == [*range(MANY)]


async def test_a_function_has_the_context_of_the_task_that_calls_it() -> None:
    COLOUR.set("green")

    assert await Threads(1).run(COLOUR.get) == "green"


@pytest.mark.parametrize("error", [ValueError("no"), StopIteration(), SystemExit(3)])
async def test_what_a_function_raises_is_raised_here(error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises((type(error), RuntimeError)) as raised:
        await Threads(1).run(fail)

    assert error in (raised.value, raised.value.__cause__)


async def test_a_cancelled_call_returns_at_once_and_its_thread_keeps_its_place() -> (
    None
):
    threads, release = Threads(1), threading.Event()
    hung = asyncio.create_task(threads.run(release.wait))
    await asyncio.sleep(0)

    hung.cancel()
    async with asyncio.timeout(PATIENCE):
        await asyncio.wait([hung])
    after = asyncio.create_task(threads.run(threading.get_ident))
    await asyncio.wait([after], timeout=0.1)
    before_release = after.done()
    release.set()

    assert hung.cancelled()
    assert not before_release
    async with asyncio.timeout(PATIENCE):
        assert await after != threading.get_ident()
