"""An event loop beside a blocking one: lanes in a thread, with a limit of slots.

The owner's thread takes a slot, hands a lane over and goes on; the slot comes back when
the lane has ended. The owner waits on simple queues, which a signal handler may use in
the middle of anything, unlike locks and events.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import traceback
from collections.abc import Callable, Collection
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Protocol

_log = logging.getLogger(__name__)


class Engine(Protocol):
    """What carries lanes: coroutines of one event loop, in a thread of its own."""

    async def start(self) -> None:
        """Open what lanes share; an exception keeps the worker from starting."""

    async def perform(self, scope: str, uid: str, job_id: str) -> None:
        """Carry one lane until it has no work left; once drained, return at once."""

    async def drain(self) -> None:
        """Have every lane keep what it has, give its records back and return soon."""

    async def aclose(self) -> None:
        """Close what ``start`` opened; no lane runs any more."""


@dataclass(slots=True, eq=False)
class LaneRun:
    """One call of ``Engine.perform``; ``id`` tells apart two runs of one job."""

    id: str
    job_id: str
    scope: str
    uid: str
    ended: Callable[[LaneRun], None]  # called on the event loop: may not block
    stopped: bool = False  # on somebody's command
    shown: bool = False  # among the running ones, to RQ's tools
    task: asyncio.Task[None] | None = None

    @property
    def over(self) -> bool:
        """Whether the lane has ended; in any thread."""
        return self.task is not None and self.task.done()

    def failure(self) -> str | None:
        """Why an ended lane failed, with the traceback if it raised; else None."""
        if self.stopped:
            return "stopped by command"
        if self.task is None or self.task.cancelled():
            return "the worker left before the lane had ended"
        error = self.task.exception()
        return "".join(traceback.format_exception(error)) if error else None


class LaneLoop:
    """The event loop with the engine on it, and at most ``limit`` lanes."""

    def __init__(self, engine: Engine, limit: int) -> None:
        self.running: set[LaneRun] = set()
        self._engine = engine
        self._ready: Future[asyncio.AbstractEventLoop] = Future()
        self._leave = asyncio.Event()
        self._drainage: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="lanes", daemon=True)
        self._slots: SimpleQueue[None] = SimpleQueue()
        self._wake: SimpleQueue[None] = SimpleQueue()
        self.free_slots(limit)

    def start(self) -> None:
        """Return when the engine has started, or raise what it raised."""
        self._thread.start()
        self._ready.result()

    def take_slots(self) -> int:
        """Wait for a free slot, or for ``drain``; take, and count, all there are."""
        self._slots.get()
        count = 1
        with suppress(Empty):
            while True:
                self._slots.get_nowait()
                count += 1
        return count

    def free_slots(self, count: int) -> None:
        """Give back slots that no lane was handed over for."""
        for _ in range(count):
            self._slots.put(None)

    def wait(self, seconds: float) -> None:
        """Wait until a lane ends, ``drain`` is called, or the time is over."""
        with suppress(Empty):
            self._wake.get(timeout=seconds)

    def drain(self) -> None:
        """Have all lanes end, and end the owner's wait; fit for a signal handler."""
        self._slots.put(None)
        self._wake.put(None)
        if self._ready.done():
            self._call(self._begin_drain)

    def carry(self, run: LaneRun) -> None:
        """Begin a lane, for which a slot was taken.

        Raises:
            RuntimeError: the event loop has died.
        """
        if not self._thread.is_alive():
            raise RuntimeError("the event loop of the lanes has died")
        self.running.add(run)
        self._call(self._begin, run)

    def cancel(self, runs: Collection[LaneRun]) -> None:
        """Cancel lanes, and return before they have ended."""
        for run in runs:
            self._call(self._cancel, run)

    def close(self, deadline: float, unwind: float) -> None:
        """Drain the lanes, cancel those that go on, close the engine, by ``deadline``.

        Cancelled lanes and the engine have ``unwind`` seconds each, at the end.
        """
        self.drain()
        self._await_lanes(deadline - 2 * unwind)
        self.cancel(tuple(self.running))
        self._await_lanes(deadline - unwind)
        self._call(self._leave.set)
        self._thread.join(max(0.0, deadline - time.monotonic()))

    def _await_lanes(self, until: float) -> None:
        while self.running and (left := until - time.monotonic()) > 0:
            self.wait(left)

    def _call(self, function: Callable[..., object], *args: object) -> None:
        with suppress(RuntimeError):  # the loop is closed, and no lane is left
            self._ready.result().call_soon_threadsafe(function, *args)

    # On the event loop.

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        try:
            await self._engine.start()
        except BaseException as error:
            await self._close_engine()
            self._ready.set_exception(error)
            return
        self._ready.set_result(asyncio.get_running_loop())
        await self._leave.wait()
        await self._close_engine()

    async def _close_engine(self) -> None:
        try:
            await self._engine.aclose()
        except Exception:
            _log.exception("the engine cannot be closed in order")

    def _begin_drain(self) -> None:
        if self._drainage is None:
            self._drainage = asyncio.ensure_future(self._drain())

    async def _drain(self) -> None:
        try:
            await self._engine.drain()
        except Exception:
            _log.exception("the engine cannot drain its lanes; they are cancelled")
            self.cancel(tuple(self.running))

    def _begin(self, run: LaneRun) -> None:
        work = self._engine.perform(run.scope, run.uid, run.job_id)
        run.task = asyncio.ensure_future(work)
        run.task.add_done_callback(lambda _: self._end(run))

    def _cancel(self, run: LaneRun) -> None:
        if run.task is not None:
            run.task.cancel()

    def _end(self, run: LaneRun) -> None:
        run.ended(run)
        self.running.discard(run)
        self._slots.put(None)
        if self._wake.empty():  # one token is enough, and they must not pile up
            self._wake.put(None)
