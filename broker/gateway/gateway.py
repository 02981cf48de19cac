"""What all requests of one gateway process share: Redis, and managers of scopes."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, Request

from broker.connection import Connection
from broker.gateway.live import Feed
from broker.icons import Icons
from broker.manager import BackgroundFetchManager
from broker.settings import Settings
from broker.shared import Shared
from schemas.names import check_scope
from schemas.urls import parse_url

MOST_MANAGERS = 64
"""Managers that are kept although nobody uses them now."""


class Gateway:
    """One connection to Redis, and one manager for each scope in use."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._base_url = parse_url(settings.base_url, None)
        self._managers: OrderedDict[str, BackgroundFetchManager] = OrderedDict()
        self._users: Counter[str] = Counter()
        self.stopping = asyncio.Event()
        """Set when requests that wait are to be answered now."""
        self._feed: Feed | None = None
        self._icons: Icons | None = None

    async def start(self) -> None:
        """Connect.

        Raises:
            Unreachable: there is no Redis.
        """
        self.connection = Connection(self.settings.found_redis())
        self.shared = Shared.of(self.connection, self.settings)
        await self.connection.ping()
        self._feed = Feed(self.connection)

    @property
    def feed(self) -> Feed:
        """What happens, for all readers of this process."""
        assert self._feed is not None
        return self._feed

    @property
    def icons(self) -> Icons:
        """The icons of fetches, for all displays."""
        if self._icons is None:
            self._icons = Icons(self.connection, self.settings)
        return self._icons

    def stop(self) -> None:
        """End what waits for news, so that open requests end soon."""
        self.stopping.set()
        if self._feed is not None:
            self._feed.stop("stopping")

    async def aclose(self) -> None:
        """Close what was opened; no request runs any more."""
        await self.feed.aclose()
        if self._icons is not None:
            await self._icons.aclose()
        for manager in self._managers.values():
            await manager.aclose()
        await self.shared.aclose()
        await self.connection.aclose()

    @asynccontextmanager
    async def manager(self, scope: str) -> AsyncIterator[BackgroundFetchManager]:
        """Lend the manager of a scope; those of idle scopes are closed in time.

        Raises:
            InvalidName: ``scope`` is no scope name.
        """
        check_scope(scope)
        if scope not in self._managers:
            self._managers[scope] = BackgroundFetchManager(
                self.connection, self.settings, scope, self._base_url, self.shared
            )
        self._managers.move_to_end(scope)
        self._users[scope] += 1
        try:
            yield self._managers[scope]
        finally:
            self._users[scope] -= 1
            await self._close_idle()

    async def _close_idle(self) -> None:
        surplus = len(self._managers) - MOST_MANAGERS
        idle = [scope for scope in self._managers if not self._users[scope]]
        for scope in idle[: max(0, surplus)]:
            del self._users[scope]
            await self._managers.pop(scope).aclose()


def gateway_of(request: Request) -> Gateway:
    """The gateway that serves a request."""
    gateway = request.app.state.gateway
    assert isinstance(gateway, Gateway)
    return gateway


async def manager_of(
    scope: str, gateway: Annotated[Gateway, Depends(gateway_of)]
) -> AsyncIterator[BackgroundFetchManager]:
    """The manager of the scope in the path of a request, while it is answered."""
    async with gateway.manager(scope) as manager:
        yield manager


OurGateway = Annotated[Gateway, Depends(gateway_of)]
OurManager = Annotated[BackgroundFetchManager, Depends(manager_of)]
