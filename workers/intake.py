"""Takes lane jobs from RQ's queues, as many in one round trip as there is room for.

RQ's own way costs two round trips and much work for each job. What is taken is in no
queue any more: jobs are hints (R1), and the reclaimer sees the fetch of one that is
lost with its worker by our own leases.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from broker.queue import LaneJobClass

_log = logging.getLogger(__name__)


class Intake:
    """Takes jobs from the first queue that has any."""

    def __init__(self, connection: Redis, queues: Mapping[str, str]) -> None:
        """``queues`` are names by key, the most urgent first."""
        self._connection = connection
        self._queues = queues

    def take(self, most: int, seconds: float | None) -> list[LaneJobClass]:
        """Return up to ``most`` jobs of one queue, in its order.

        Waits for the first of them so long, not at all if ``seconds`` is None. What
        cannot be used is dropped, with a line in the log.

        Raises:
            RedisError: Redis does not answer.
        """
        while (popped := self._pop(most, seconds)) is not None:
            ids = [name.decode(errors="replace") for name in popped[1]]
            with self._connection.pipeline(transaction=False) as pipe:
                for id in ids:
                    pipe.hgetall(LaneJobClass.key_for(id))
                rows = pipe.execute(raise_on_error=False)
            found = [self._read(id, row) for id, row in zip(ids, rows, strict=True)]
            jobs = [job for job in found if job is not None]
            for job in jobs:
                job.origin = self._queues[popped[0].decode()]
            if jobs:
                return jobs
        return []

    def _pop(self, most: int, seconds: float | None) -> Any:
        client, keys = self._connection, tuple(self._queues)
        if seconds is None:
            return client.lmpop(len(keys), *keys, direction="LEFT", count=most)
        return client.blmpop(seconds, len(keys), *keys, direction="LEFT", count=most)

    def _read(self, id: str, row: Any) -> LaneJobClass | None:
        if isinstance(row, RedisError) or not row:
            return None  # the job is gone, or its key holds none
        try:
            return LaneJobClass.read(id, row, self._connection)
        except Exception:
            _log.exception("an unusable job id was dropped")
            return None
