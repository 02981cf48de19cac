"""A process of a subscriber that writes down what it handles, and is not always quick.

What a handler does is drawn from the seed and the delivery, so that a seed repeats it.
The first handler of each process lasts longer than a lease, whatever was drawn.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from broker.deliveries import Begun
from broker.settings import Settings
from broker.signals import on_first_signal
from broker.tasks import cancel_all
from schemas.errors import Unreachable
from tests.torture.history import History
from tests.torture.publisher import SCOPE
from tests.torture.trap import Trap
from workers.events import BackgroundFetchEvent
from workers.runtime import Runtime
from workers.service_worker import ServiceWorker

_RAISE, _SLOW, _SLEEP = 0.02, 0.05, 0.15
_LONG = 1.5
"""Leases for which the first handler of a process lasts."""
_PAUSE = 0.1
_POLL = 0.02


class Trouble(Exception):
    """A handler that fails, as the seed wants it."""


def consume() -> int:
    """Handle events until told to leave; return the exit code."""
    settings = Settings.load()
    directory = Path(os.environ["HISTORY"])
    history = History(directory / f"{os.getpid()}.history")
    lease = settings.lease.total_seconds()
    handlers = _Handlers(history, Trap(directory), os.environ["SEED"], lease)
    worker = ServiceWorker(SCOPE, name=os.environ["SUBSCRIBER"])
    worker.add_event_listener("backgroundfetchclick", handlers.on_loop)
    worker.add_event_listener("backgroundfetchabort", handlers.in_thread)
    while True:
        try:
            runtime = Runtime(worker, settings, observer=handlers.observe)
            asyncio.run(_run(runtime, history.watch(lease)))
            return 0
        except Unreachable:  # a start without Redis fails, and is repeated
            time.sleep(_PAUSE)


async def _run(runtime: Runtime, beside: Coroutine[Any, Any, None]) -> None:
    on_first_signal([signal.SIGTERM], lambda _: runtime.stop())
    task = asyncio.create_task(beside)
    try:
        await runtime.run()
    finally:
        await cancel_all([task])


class _Handlers:
    def __init__(self, history: History, trap: Trap, seed: str, lease: float) -> None:
        self._history, self._trap = history, trap
        self._seed, self._lease = seed, lease
        self._longest = _LONG * lease

    async def on_loop(self, event: BackgroundFetchEvent) -> None:
        """Handle an event on the event loop."""
        if self._begin(event):
            while self._trap.keeps(event.delivery_id):  # noqa: ASYNC110 - a file
                await asyncio.sleep(_POLL)
            await asyncio.sleep(self._seconds(event))
            self._may_fail(event)
        self._history.write("done", event.delivery_id, event.attempt)

    def in_thread(self, event: BackgroundFetchEvent) -> None:
        """Handle an event in a thread, which nothing interrupts."""
        if self._begin(event):
            while self._trap.keeps(event.delivery_id):
                time.sleep(_POLL)
            time.sleep(self._seconds(event))
            self._may_fail(event)
        self._history.write("done", event.delivery_id, event.attempt)

    def _begin(self, event: BackgroundFetchEvent) -> bool:
        """Tell of the start; False for one that was caught, which is to end at once."""
        self._history.write("start", event.delivery_id, event.attempt)
        return not self._trap.meet(event.delivery_id)

    def observe(self, outcome: str, begun: Begun) -> None:
        """Write down how Redis answered the end of an attempt."""
        if outcome in ("acked", "lost"):
            delivery = begun.delivery.delivery_id
            self._history.write(outcome, delivery, begun.attempt, begun.nonce)

    def _seconds(self, event: BackgroundFetchEvent) -> float:
        choose = self._choose(event, "seconds")
        first, self._longest = self._longest, 0.0
        if first:
            return first
        if choose.random() < _SLOW:
            return choose.uniform(0.3, 1.5) * self._lease
        return choose.random() * 0.02 if choose.random() < _SLEEP else 0.0

    def _may_fail(self, event: BackgroundFetchEvent) -> None:
        if self._choose(event, "raise").random() < _RAISE:
            self._history.write("raised", event.delivery_id, event.attempt)
            raise Trouble

    def _choose(self, event: BackgroundFetchEvent, about: str) -> random.Random:
        # Uids are not drawn from the seed: what has no name of its own repeats.
        name = event.delivery_id.split("/", 1)[1]
        told = f"{self._seed}/{event.registration.id}/{name}/{event.attempt}/{about}"
        return random.Random(told)
