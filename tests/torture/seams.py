"""Where a worker may die: before and after whatever it asks of Redis, disk or origin.

A *point* is one such moment; they are numbered as they come. A worker whose points
nobody has chosen only counts them.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

import redis.asyncio.connection
import redis.connection

from workers.reception import Reception
from workers.transport import Transport

_ON_DISK = ("fdatasync", "fsync", "link", "pwrite", "pwritev", "rename", "unlink")


class Seams:
    """Wraps the calls of this process, and kills it at one point."""

    def __init__(self, point: int = -1) -> None:
        self._point = point
        self._passed = itertools.count()

    @property
    def passed(self) -> int:
        """How many points there have been; to be asked once, at the end."""
        return next(self._passed)

    def install(self) -> None:
        """Wrap everything; before a loop, a client or a handle exists."""
        for name in _ON_DISK:
            self._wrap(os, name)
        self._wrap(os, "open", lambda _path, flags, *_: bool(flags & os.O_CREAT))
        self._wrap(redis.connection.AbstractConnection, "send_packed_command")
        self._wrap(Reception, "body")
        awaited = redis.asyncio.connection.AbstractConnection
        self._wrap_awaited(awaited, "send_packed_command")
        self._wrap_awaited(Transport, "exchange")

    def _pass(self) -> None:
        # Counting takes no lock: any thread may be at a point, and dies where it is.
        if next(self._passed) == self._point:
            os.kill(os.getpid(), signal.SIGKILL)

    def _wrap(
        self, owner: Any, name: str, counts: Callable[..., bool] = lambda *_: True
    ) -> None:
        real = getattr(owner, name)

        @wraps(real)
        def call(*arguments: Any, **options: Any) -> Any:
            if not counts(*arguments):
                return real(*arguments, **options)
            self._pass()
            try:
                return real(*arguments, **options)
            finally:
                self._pass()

        setattr(owner, name, call)

    def _wrap_awaited(self, owner: Any, name: str) -> None:
        real: Callable[..., Awaitable[Any]] = getattr(owner, name)

        @wraps(real)
        async def call(*arguments: Any, **options: Any) -> Any:
            self._pass()
            try:
                return await real(*arguments, **options)
            finally:
                self._pass()

        setattr(owner, name, call)
