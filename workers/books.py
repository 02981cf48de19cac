"""A thread that writes to Redis for others: many entries to a pipeline, in order.

Nobody waits for it. While Redis is away the entries wait, and it is told about once.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import ConnectionError, RedisError, TimeoutError
from typing_extensions import override

Entry = Callable[[Pipeline], object]

_TICK = 1.0  # s between looks at what ``Duties.finish`` depends on
_GATHER = 0.05  # s in which others may join a pipeline, and short lanes end
_LAST_TRIES = 3  # to reach a Redis that is away while this process leaves
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Duties:
    """What is due beside the entries, called on the thread of the books."""

    beat: Callable[[Pipeline], None]  # every ``interval``, and first after an outage
    interval: float  # s
    finish: Callable[[Pipeline], None]  # last in every pipeline
    leave: Callable[[], None]  # when the books are closed


class Books(threading.Thread):
    """Applies entries in the order in which they were put, each once it succeeds.

    An entry whose reply was lost is applied again.
    """

    def __init__(self, connection: Redis, duties: Duties) -> None:
        super().__init__(name="books", daemon=True)
        self.closing = threading.Event()
        self._connection, self._duties = connection, duties
        self._inbox: SimpleQueue[Entry | None] = SimpleQueue()
        self._beat_due = 0.0
        self._outage = threading.Lock()
        self._away = False

    def put(self, entry: Entry) -> None:
        """Have ``entry`` fill its commands into the next pipeline."""
        self._inbox.put(entry)

    def close(self, deadline: float) -> None:
        """Write what is left and leave; give up at ``deadline``, or without Redis."""
        self.closing.set()
        self._inbox.put(None)
        self.join(max(0.0, deadline - time.monotonic()))

    def lost(self, error: RedisError) -> None:
        """Tell once that Redis is away, and beat as soon as it is back."""
        self._beat_due = 0.0
        with self._outage:
            if not self._away:
                self._away = True
                _log.warning("Redis does not answer (%s); trying again", error)

    def found(self) -> None:
        """Tell once that Redis is back."""
        with self._outage:
            if self._away:
                self._away = False
                _log.info("Redis answers again")

    @override
    def run(self) -> None:
        entries: list[Entry] = []
        failures = 0
        while True:
            try:
                self._write(entries)
                failures = 0
            except RedisError as error:
                self.lost(error)
                if not isinstance(error, (ConnectionError, TimeoutError)):
                    entries.clear()  # refused: no better the next time
                failures += 1
                self.closing.wait(delay(failures))
            done = not entries and self._inbox.empty()
            if self.closing.is_set() and (done or failures > _LAST_TRIES):
                break
            entries += self._collect(0 if failures else _TICK)
        with suppress(RedisError):
            self._duties.leave()

    def _collect(self, timeout: float) -> list[Entry]:
        found = []
        with suppress(Empty):
            found.append(self._inbox.get(timeout > 0, timeout))
            self.closing.wait(_GATHER)
            while True:
                found.append(self._inbox.get_nowait())
        return [entry for entry in found if entry is not None]

    def _write(self, entries: list[Entry]) -> None:
        beating = time.monotonic() >= self._beat_due
        # Not MULTI: at maxmemory it would refuse what frees memory with what does not.
        with self._connection.pipeline(transaction=False) as pipe:
            for entry in entries:
                self._apply(entry, pipe)
            if beating:
                self._apply(self._duties.beat, pipe)
            self._duties.finish(pipe)
            replies = pipe.execute(raise_on_error=False)
        entries.clear()
        if beating:
            self._beat_due = time.monotonic() + self._duties.interval
        if replies:
            self.found()
        refused = [reply for reply in replies if isinstance(reply, RedisError)]
        if refused:
            _log.warning("%d commands were refused: %s", len(refused), refused[0])

    def _apply(self, entry: Entry, pipe: Pipeline) -> None:
        try:
            entry(pipe)
        except RedisError:
            raise
        except Exception:  # one strange entry must not hold up all others
            _log.exception("an entry cannot be written")


def delay(failures: int) -> float:
    """Seconds until the next try: doubling to 5; jitter keeps a fleet out of step."""
    longest: float = min(5.0, 0.1 * 2.0 ** min(failures, 6))
    return longest * random.uniform(0.5, 1.0)
