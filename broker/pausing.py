"""Pausing a background fetch, and letting it go on (§ complete a record, paused flag).

A paused fetch keeps what is stored, and its checkpoints, and stands in no queue; it is
as durable as any. Its lanes hear of it as they do of an abort, at the latest at their
next heartbeat; one that hears nothing loses its records when its lease ends.
"""

from __future__ import annotations

import secrets

import structlog

from broker.connection import Connection
from broker.context import context
from broker.keys import ABORTS, RECLAIM, FetchKeys
from broker.places import described, places
from broker.queue import JobQueue, queue_key
from broker.settings import Settings
from schemas.errors import Failure, InvalidState
from schemas.fetches import FetchState, Priority

log = structlog.get_logger()

_REFUSALS = {
    "never": "background fetch {!r} cannot be paused: only one all of whose requests "
    "are exactly GET can (BF-DISP-08)",
    "settled": "background fetch {!r} has ended",
    "gone": "background fetch {!r} is no longer retained",
}


class Pausing:
    """Pauses and resumes one background fetch."""

    def __init__(
        self, connection: Connection, settings: Settings, queue: JobQueue
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._queue = queue

    async def pause(self, state: FetchState, token: str | None = None) -> bool:
        """See ``BackgroundFetchRegistration.pause``."""
        keys = FetchKeys(state.scope, state.uid)
        names, arguments = context(keys, self._settings)
        place_keys, place_arguments = places(keys, self._settings)
        verdict, jobs = await self._connection.run(
            "pause_fetch",
            [
                *names,
                *(keys.lanes, keys.claims, keys.pool),
                keys.tokens,
                *place_keys,
            ],
            [*arguments, _call("pause", token), ABORTS, *place_arguments],
        )
        await self._enqueue(state, jobs)
        return _changed(state, verdict)

    async def resume(self, state: FetchState, token: str | None = None) -> bool:
        """See ``BackgroundFetchRegistration.resume``."""
        keys, settings = FetchKeys(state.scope, state.uid), self._settings
        names, arguments = context(keys, settings)
        place_keys, place_arguments = places(keys, settings)
        priority: bytes | None = await self._connection.ask(
            "HGET", keys.fetch, "priority"
        )
        verdict, jobs, dead = await self._connection.run(
            "resume_fetch",
            [
                *names,
                *(keys.lanes, keys.claims, keys.pool),
                queue_key(priority.decode() if priority else Priority.AUTO),
                RECLAIM,
                keys.tokens,
                *place_keys,
            ],
            [
                *arguments,
                settings.max_lanes,
                settings.lane_size,
                _call("resume", token),
                *place_arguments,
            ],
        )
        await self._enqueue(state, jobs, [job.decode() for job in dead])
        return _changed(state, verdict)

    async def _enqueue(
        self, state: FetchState, jobs: list[bytes], dead: list[str] | None = None
    ) -> None:
        # A job lost here is found missing by a reclaimer (R1).
        try:
            lanes = await described(self._connection, state.scope, jobs)
            await self._queue.enqueue(lanes)
            await self._queue.abandon(dead or [], "its worker died")
        except Failure as error:
            log.warning("job_not_enqueued", id=state.id, error=str(error))


def _call(verb: str, token: str | None) -> str:
    return f"{verb}:{token or secrets.token_hex(8)}"


def _changed(state: FetchState, verdict: bytes) -> bool:
    refusal = _REFUSALS.get(verdict.decode())
    if refusal is not None:
        raise InvalidState(refusal.format(state.id))
    return verdict == b"ok"
