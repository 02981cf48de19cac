"""What is wrong, told on every page, and only while it is."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta

from broker.gateway.gateway import Gateway
from broker.keys import ScopeKeys
from broker.origins import all_origins
from broker.processes import Processes, Role
from broker.queue import JobQueue
from broker.scopes import look_at_scopes
from broker.standing import Standing, look_at_all

FRESH_SECONDS = 5.0
"""How old a finding may be: it costs more than most pages."""
STUCK = timedelta(minutes=5)
"""Age of the oldest event at which a subscriber counts as stuck."""
MOST_SCOPES = 50
"""Scopes that are looked at."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that is wrong."""

    what: str
    address: str
    scope: str | None = None
    """Whose it is; None: everybody's."""


class Lookout:
    """Looks for trouble now and then, for all pages of a process."""

    def __init__(self) -> None:
        self._found: tuple[Trouble, ...] = ()
        self._until = 0.0

    async def troubles(self, gateway: Gateway) -> tuple[Trouble, ...]:
        """Return what was wrong within the last seconds.

        Raises:
            Unreachable: Redis does not answer.
        """
        if time.monotonic() >= self._until:
            self._until = time.monotonic() + FRESH_SECONDS  # one look at a time
            self._found = (
                *await _without_workers(gateway),
                *await _stuck(gateway),
                *await _throttled(gateway),
            )
        return self._found


async def _without_workers(gateway: Gateway) -> list[Trouble]:
    alive = await Processes(gateway.connection).alive()
    if any(process.role is Role.WORKER for process in alive):
        return []
    queue = JobQueue(gateway.connection.url)
    try:
        waiting = sum((await queue.waiting()).values())
        if not waiting or await queue.workers_alive():
            return []
    finally:
        await queue.aclose()
    jobs = f"{waiting:,} job waits" if waiting == 1 else f"{waiting:,} jobs wait"
    return [Trouble(f"No worker is alive, and {jobs}: run bgfetch worker.", "/workers")]


async def _stuck(gateway: Gateway) -> list[Trouble]:
    found = []
    for scope in (await look_at_scopes(gateway.connection))[:MOST_SCOPES]:
        if not scope.subscribers:
            continue
        for look in await look_at_all(gateway.connection, ScopeKeys(scope.scope)):
            late = look.oldest is not None and look.oldest > STUCK
            if look.state is Standing.ACTIVE and late:
                what = (
                    f"Subscriber {look.name} of {scope.scope} is stuck: its oldest "
                    f"event has waited for more than {STUCK.seconds // 60} minutes"
                )
                nobody = "" if look.processes else ", and no process of it is alive"
                found.append(Trouble(f"{what}{nobody}.", "/events", scope.scope))
    return found


async def _throttled(gateway: Gateway) -> list[Trouble]:
    return [
        Trouble(
            f"{look.origin} is left alone: {look.reason}."
            if look.paused
            else f"{look.origin} is asked less: {look.reason}.",
            "/origins",
        )
        for look in await all_origins(gateway.connection)
        if look.paused or look.reason
    ][:3]
