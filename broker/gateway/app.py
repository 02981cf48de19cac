"""The gateway's application: its routes, what they share, how errors are told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from broker.gateway import health, metrics
from broker.gateway.api import API, include_api
from broker.gateway.audit import Audit
from broker.gateway.contents import LimitedBodies
from broker.gateway.documents import ABOUT, TAGS
from broker.gateway.gateway import Gateway
from broker.gateway.guards import Guards
from broker.gateway.login import Login
from broker.gateway.pages import include_pages
from broker.gateway.problems import tell_problems
from broker.gateway.rates import Rates
from broker.settings import Settings
from schemas.urls import host_of, parse_url

WRITE_BURST = 200
"""Writes that an account may send at once; the rate refills them."""


def create_app(settings: Settings) -> FastAPI:
    """Make the application; it connects when its server starts."""
    gateway = Gateway(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await gateway.start()
        try:
            yield
        finally:
            await gateway.aclose()

    app = FastAPI(
        title="Background Fetch for servers",
        version="1",
        description=ABOUT,
        openapi_tags=TAGS,
        openapi_url=f"{API}/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.gateway = gateway
    app.state.write_rates = Rates(settings.write_rate, WRITE_BURST)
    app.state.audit = Audit(lambda: gateway.connection)
    app.add_middleware(LimitedBodies, limit=settings.max_json)
    app.add_middleware(
        Guards,
        hosts=[*settings.hosts, host_of(parse_url(settings.base_url, None))],
        login=Login(settings.accounts),
        audit=app.state.audit,
        read_only=settings.read_only,
    )
    tell_problems(app)
    app.include_router(health.router)
    app.include_router(metrics.router)
    include_api(app)
    include_pages(app)
    return app
