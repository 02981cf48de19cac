"""What carries fetches out: processes, queues, and the origins that are asked."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, Request, Response

from broker.gateway.access import Role, needs
from broker.gateway.gateway import OurGateway
from broker.gateway.pages.rendering import PageRoute, render
from broker.gateway.pages.trouble import MOST_SCOPES
from broker.keys import AGENDA, PROCESSES, ScopeKeys
from broker.origins import all_origins
from broker.processes import Process
from broker.queue import QUEUES, JobQueue
from broker.scopes import look_at_scopes
from schemas.fetches import Priority

router = APIRouter(route_class=PageRoute, dependencies=[needs(Role.VIEWER)])

LATE_MS = 60_000
"""How long a fetch may wait for a look before nobody seems to look."""
MOST_PROCESSES = 500


@dataclass(frozen=True, slots=True)
class Alive:
    """A process, and how long it may still be believed to live."""

    process: Process
    left: float
    """Seconds; it tells so again long before."""

    @property
    def pid(self) -> str:
        """Its number on its host."""
        return self.process.name.split(":")[1] if ":" in self.process.name else ""


@router.get("/workers")
async def show_processes(request: Request, gateway: OurGateway) -> Response:
    """Show the processes that live."""
    now = await gateway.connection.now()
    rows: list[tuple[bytes, float]] = await gateway.connection.ask(
        *("ZRANGE", PROCESSES, f"({now}", "+inf", "BYSCORE"),
        *("LIMIT", 0, MOST_PROCESSES, "WITHSCORES"),
    )
    found = [
        Alive(process, (score - now) / 1000)
        for member, score in rows
        if (process := Process.of(member.decode())) is not None
    ]
    found.sort(key=lambda alive: (alive.process.role, alive.process.name))
    queue = JobQueue(gateway.connection.url)
    try:
        by_rq = await queue.workers_alive()
    finally:
        await queue.aclose()
    known = {alive.process.name for alive in found}
    stock = [name for name in by_rq if name not in known]
    return await render(request, "workers.html", found=found, stock=stock)


@dataclass(frozen=True, slots=True)
class Line:
    """How many lane jobs of a scope and priority there are."""

    scope: str
    priority: Priority
    placed: int
    """In RQ, at work ones included."""
    waiting: int
    """In the scope's own line, until there is a place."""


@router.get("/queues")
async def show_queues(request: Request, gateway: OurGateway) -> Response:
    """Show what waits: RQ's queues, the scopes' own lines, and looks that are late."""
    connection = gateway.connection
    queue = JobQueue(connection.url)
    try:
        waiting = await queue.waiting()
    finally:
        await queue.aclose()
    names = [each.scope for each in await look_at_scopes(connection)][:MOST_SCOPES]
    lines = [(ScopeKeys(name), priority) for name in names for priority in Priority]
    counts = await connection.ask_all(
        ("ZCARD", key)
        for keys, priority in lines
        for key in (keys.places(priority), keys.waiting(priority))
    )
    found = [
        Line(keys.scope, priority, placed, left)
        for (keys, priority), placed, left in zip(
            lines, counts[::2], counts[1::2], strict=True
        )
        if placed or left
    ]
    since = await connection.now() - LATE_MS
    return await render(
        request,
        "queues.html",
        queues=[(QUEUES[each], each, waiting[QUEUES[each]]) for each in Priority],
        found=found,
        most=gateway.settings.scope_lanes,
        due=await connection.ask("ZCARD", AGENDA),
        late=await connection.ask("ZCOUNT", AGENDA, "-inf", since),
    )


@router.get("/origins")
async def show_origins(request: Request, gateway: OurGateway) -> Response:
    """Show what all workers together ask of each origin, and why not more."""
    found = await all_origins(gateway.connection)
    found.sort(key=lambda look: (not (look.paused or look.reason), look.origin))
    now = await gateway.connection.now()
    return await render(request, "origins.html", found=found, now=now)
