"""The HTTP API: which routes it has."""

from __future__ import annotations

from fastapi import FastAPI

from broker.gateway.documents import describe, problems
from broker.gateway.routes import (
    actions,
    automation,
    bodies,
    bulk,
    dead_letters,
    events,
    fetches,
    listing,
    pulling,
    records,
    registering,
    scopes,
    service,
    subscribers,
)
from broker.gateway.routes import problems as problem_kinds

API = "/api/v1"

_ROUTERS = (
    registering.router,
    listing.router,
    fetches.router,
    bulk.router,
    actions.router,
    actions.forgetting,
    records.router,
    bodies.router,
    scopes.router,
    events.router,
    pulling.router,
    subscribers.router,
    dead_letters.router,
    service.router,
)


def include_api(app: FastAPI) -> None:
    """Add every route of the API, and its description."""
    for router in _ROUTERS:
        app.include_router(router, prefix=API, responses=problems())
    app.include_router(automation.router)
    app.include_router(problem_kinds.router)
    describe(app)
