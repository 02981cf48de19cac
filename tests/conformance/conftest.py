"""What the tests of the rows share: a scope, an origin, workers and a subscriber."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from broker.manager import BackgroundFetchManager, connect
from broker.settings import Settings
from tests.conformance.stage import Stage
from tests.integration.clock import SCOPE
from tests.integration.conftest import (
    bgfetch,
    engine,
    gateway,
    manager,
    origin,
    process,
    settings,
)
from workers.demo.origin import Origin
from workers.engine import Engine
from workers.service_worker import ServiceWorker

__all__ = [
    "bgfetch",
    "engine",
    "gateway",
    "manager",
    "origin",
    "process",
    "settings",
]


@pytest.fixture
def stage(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin, settings: Settings
) -> Stage:
    """A scope with workers of its own and an origin."""
    return Stage(manager, engine, origin, settings)


@pytest.fixture
async def elsewhere(settings: Settings) -> AsyncIterator[BackgroundFetchManager]:
    """The same scope, as another process sees it."""
    async with connect(scope=SCOPE, settings=settings) as opened:
        yield opened


@pytest.fixture
def sw() -> ServiceWorker:
    """The service worker of the scope, without listeners."""
    return ServiceWorker(SCOPE)
