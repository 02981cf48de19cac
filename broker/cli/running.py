"""From the command line's plain functions into the event loop, and back by signals."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from broker.cli.exits import Interrupted
from broker.signals import on_first_signal
from broker.tasks import cancel_all
from schemas.errors import ConfigError, InvalidName
from schemas.names import check_scope

if TYPE_CHECKING:
    from broker.manager import BackgroundFetchManager
    from broker.settings import Settings

T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run ``work``; the first signal cancels it, so that it ends what it started.

    Raises:
        Interrupted: it was cancelled by a signal.
    """
    return asyncio.run(_interruptible(work))


async def _interruptible(work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.current_task()
    assert task is not None
    heard: list[int] = []

    def cancel(number: signal.Signals) -> None:
        heard.append(number)
        task.cancel()

    on_first_signal(_SIGNALS, cancel)
    try:
        return await work
    except asyncio.CancelledError:
        if heard:
            raise Interrupted(heard[0]) from None
        raise


async def first_of(work: Coroutine[Any, Any, T], *others: asyncio.Task[Any]) -> T:
    """Do ``work``; raise what one of the others raises if that comes first.

    A cancellation ends it for certain.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.wait([task, *others], return_when=asyncio.FIRST_COMPLETED)
        for other in others:
            if other.done() and not task.done():
                await other
        return await task
    finally:
        await cancel_all([task])


def in_scope(
    scope: str,
    redis_url: str | None,
    work: Callable[[BackgroundFetchManager], Coroutine[Any, Any, T]],
) -> T:
    """Connect to a Redis that runs, do ``work`` with the scope, and return its result.

    Raises:
        ConfigError: ``scope`` is no scope name, or a setting cannot be used.
        Unreachable: there is no Redis.
    """
    from broker.manager import connect

    settings = configured(scope=scope, redis_url=redis_url or None)

    async def connected() -> T:
        async with connect(scope=scope, settings=settings) as manager:
            return await first_of(work(manager))

    return run(connected())


def networks(more: Sequence[str] | None) -> str:
    """The networks that the environment allows, and ``more``."""
    given = [os.environ.get("BGFETCH_ALLOW_NETWORKS", ""), *(more or ())]
    return ",".join(filter(None, given))


def configured(scope: str | None = None, **overrides: object) -> Settings:
    """The settings of the environment, with what options say instead.

    Raises:
        ConfigError: ``scope`` is no scope name, or a setting cannot be used.
    """
    from broker.settings import Settings

    if scope is not None:
        try:
            check_scope(scope)
        except InvalidName as error:
            raise ConfigError(str(error)) from error
    return Settings.load(**overrides)
