"""Threads that wait for a network, and for which no process waits at its end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

from schemas.errors import StorageError

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """Runs steps in at most ``limit`` threads, in the order of their submission.

    Those of ``concurrent.futures`` are joined when the interpreter ends, which a server
    that does not answer would put off past every grace.
    """

    def __init__(self, limit: int, name: str) -> None:
        self._limit = limit
        self._name = name
        self._steps: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._started = 0
        self._lock = threading.Lock()
        self._unfinished: set[Future[Any]] = set()
        self._closed = False

    def submit(
        self, step: Callable[P, T], *arguments: P.args, **named: P.kwargs
    ) -> Future[T]:
        """Run a step soon. Once these threads are closed its future has an error."""
        future: Future[T] = Future()

        def run() -> None:
            try:
                result = step(*arguments, **named)
            except BaseException as error:
                with self._ending(future):
                    future.set_exception(error)
            else:
                with self._ending(future):
                    future.set_result(result)

        with self._lock:
            if self._closed:
                future.set_exception(StorageError("the store was closed"))
                return future
            self._unfinished.add(future)
            self._steps.put(run)
            if self._started < self._limit:
                self._started += 1
                threading.Thread(target=self._run, name=self._name, daemon=True).start()
        return future

    def close(self) -> None:
        """Have nobody wait any more: neither for a step nor for these threads."""
        with self._lock:
            self._closed = True
            unfinished, self._unfinished = self._unfinished, set()
        for future in unfinished:
            with suppress(InvalidStateError):
                future.set_exception(StorageError("the store was closed"))
        for _ in range(self._started):
            self._steps.put(None)

    @contextmanager
    def _ending(self, future: Future[Any]) -> Iterator[None]:
        with self._lock:
            self._unfinished.discard(future)
        with suppress(InvalidStateError):  # closed meanwhile
            yield

    def _run(self) -> None:
        while (step := self._steps.get()) is not None:
            if not self._closed:
                step()
