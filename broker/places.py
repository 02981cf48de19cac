"""Places: how many lane jobs of a scope are in RQ at a time (fairness between scopes).

RQ's queues are first come, first served. A scope with ten thousand fetches would keep
all others waiting behind them, so only ``BGFETCH_SCOPE_LANES`` of its jobs of each
priority are in RQ, at work ones included. The others wait in a line of the scope's own,
the oldest fetch first. The script that ends a lane admits the next, and its caller
enqueues them; if that fails, the agenda finds the jobs missing (R1, R25).
"""

from __future__ import annotations

from collections.abc import Sequence

from broker.connection import Connection
from broker.keys import FetchKeys, ScopeKeys
from broker.policies import POLICY
from broker.queue import LaneJob
from broker.settings import Settings, milliseconds
from schemas.fetches import FetchState, Priority, Result
from schemas.policies import ScopePolicy

_LINES = (Priority.HIGH, Priority.AUTO, Priority.LOW)  # as _places.lua names them


def places(keys: FetchKeys, settings: Settings) -> tuple[list[str], list[str | int]]:
    """The last keys and arguments of scripts that include ``lua/_places.lua``."""
    scope = ScopeKeys(keys.scope)
    return (
        [keys.jobs, *map(scope.places, _LINES), *map(scope.waiting, _LINES)],
        [settings.scope_lanes, milliseconds(settings.lease)],
    )


async def described(
    connection: Connection, scope: str, job_ids: Sequence[bytes]
) -> list[LaneJob]:
    """Return jobs as the queue takes them; those of forgotten fetches are left out.

    Raises:
        Unreachable: Redis does not answer.
    """
    names = [job_id.decode() for job_id in job_ids]
    uids = [name.partition("-")[0] for name in names]
    if not names:
        return []
    async with connection.redis.pipeline(transaction=False) as pipe:
        for uid in uids:
            pipe.hmget(FetchKeys(scope, uid).fetch, "id", "records", "priority")
        async with connection.answering():
            rows = await pipe.execute()
    return [
        LaneJob(name, scope, uid, id.decode(), int(records), Priority(known.decode()))
        for name, uid, (id, records, known) in zip(names, uids, rows, strict=True)
        if id is not None
    ]


async def waiting(
    connection: Connection, settings: Settings, states: Sequence[FetchState]
) -> dict[str, str]:
    """Tell of each of these that only waits, for a place or its hours, why; by uid.

    Raises:
        Unreachable: Redis does not answer.
    """
    active = [state for state in states if state.result is Result.ACTIVE]
    async with connection.redis.pipeline(transaction=False) as pipe:
        for state in active:
            keys = FetchKeys(state.scope, state.uid)
            pipe.hvals(keys.jobs)
            pipe.hlen(keys.lanes)
            pipe.hmget(keys.fetch, "priority", POLICY)
        pipe.time()
        async with connection.answering():
            *rows, (seconds, _) = await pipe.execute()
        idle = [
            (state, jobs, Priority(row[0].decode()))
            for state, jobs, lanes, row in zip(
                active, rows[::3], rows[1::3], rows[2::3], strict=True
            )
            if jobs and not lanes and row[0]
        ]
        closed = {
            state.uid: f"waits for its hours, {policy.window} UTC"
            for state, lanes, row in zip(active, rows[1::3], rows[2::3], strict=True)
            if (policy := ScopePolicy.read(row[1])).hours
            and not lanes
            and policy.hours.closed(seconds * 1000, seconds * 1000 + 1)
        }
        for state, jobs, priority in idle:
            scope = ScopeKeys(state.scope)
            pipe.zmscore(scope.waiting(priority), jobs)
            pipe.zcard(scope.places(priority))
        async with connection.answering():
            lines = await pipe.execute()
    return {
        state.uid: f"waits for a place: {state.scope!r} has {taken} of "
        f"{settings.scope_lanes} lanes of priority {str(priority)!r}"
        for (state, _, priority), scores, taken in zip(
            idle, lines[::2], lines[1::2], strict=True
        )
        if None not in scores
    } | closed
