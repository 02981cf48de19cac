"""Icons of background fetches, without a person's browser leaving our host (§ Display).

An icon is a background fetch of our own, in a scope that nobody else may use: the same
workers bring it, under the same address policy and limits, and all displays share it
until the retention ends. Whoever serves one sends ``HEADERS`` with it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType

import structlog

from broker.connection import Connection
from broker.manager import BackgroundFetchManager
from broker.registration import BackgroundFetchRegistration
from broker.settings import Settings, milliseconds
from schemas.errors import BackgroundFetchError, DuplicateFetch
from schemas.fetches import FetchState, Priority, Result
from schemas.icons import TYPES, choose, image_type
from schemas.names import OWN
from schemas.requests import Request
from schemas.urls import parse_url

log = structlog.get_logger()

SCOPE = OWN + "icons"
MAX_BYTES = 1024 * 1024
"""An icon of more is not shown; nor is one that becomes more when it is decoded."""
AGAIN = timedelta(hours=1)
"""How long a failure is remembered."""
HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
        "sandbox",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "private, max-age=3600",
    }
)
"""What an icon is served with: an SVG that is opened by itself runs no script."""


@dataclass(frozen=True, slots=True)
class Icon:
    """An image that is here."""

    type: str
    """As its bytes say: one of ``schemas.icons.TYPES``."""
    body: bytes
    digest: str
    """sha256 of the body, hexadecimal: an ETag."""


class Icons:
    """Brings icons, each once for all displays. No failure of one is ever raised."""

    def __init__(self, connection: Connection, settings: Settings) -> None:
        self._manager = BackgroundFetchManager(
            connection, settings, SCOPE, parse_url(settings.base_url, None)
        )

    async def aclose(self) -> None:
        """Stop listening; the connection is the caller's."""
        await self._manager.aclose()

    async def of(
        self, state: FetchState, *, size: int = 96, wait: timedelta = timedelta(0)
    ) -> Icon | None:
        """Return the icon that a display of a fetch shows on so many pixels, or None.

        See ``body``. Only what fetches name is ever asked for.
        """
        chosen = choose(state.icons, size)
        if chosen is None:
            return None
        with suppress(BackgroundFetchError):
            url = parse_url(chosen.src, state.base_url or None)
            return await self.body(url, wait=wait)
        return None

    async def body(
        self, icon_url: str, *, wait: timedelta = timedelta(0)
    ) -> Icon | None:
        """Return an image, or None while it is not here, or if it cannot be had.

        The first call asks for it; ``wait`` is how long to wait for it. A failure is
        remembered for an hour, then the next call tries again.
        """
        try:
            registration = await self._registered(icon_url)
            await _wait(registration, wait)
            return await _read(registration)
        except BackgroundFetchError as error:
            log.debug("icon_not_shown", url=icon_url, error=str(error))
            return None

    async def _registered(self, url: str) -> BackgroundFetchRegistration:
        """Return the fetch of this icon, wanted now if it has to be."""
        manager, id = self._manager, hashlib.sha256(url.encode()).hexdigest()
        found = await manager.find(id)
        if found is not None and not await self._is_over(found.state):
            return found
        request = Request(url, headers={"Accept": ", ".join(TYPES)})
        try:
            return await manager.fetch(
                id, request, download_total=MAX_BYTES, priority=Priority.LOW
            )
        except DuplicateFetch:
            found = await manager.find(id)
            if found is None:
                raise
            return found

    async def _is_over(self, state: FetchState) -> bool:
        """Whether an icon is to be asked for again."""
        if state.result is Result.FAILURE:
            now = await self._manager.connection.now()
            return state.settled_at + milliseconds(AGAIN) <= now
        return state.result is Result.SUCCESS and not state.records_available


async def _wait(registration: BackgroundFetchRegistration, limit: timedelta) -> None:
    if limit:
        with suppress(TimeoutError):
            async with asyncio.timeout(limit.total_seconds()):
                async for _ in registration.progress():
                    pass


async def _read(registration: BackgroundFetchRegistration) -> Icon | None:
    if registration.result is not Result.SUCCESS:
        return None
    [record] = await registration.match_all()
    response = await record.response_ready
    body = bytearray()
    async for chunk in response.body:
        body += chunk
        if len(body) > MAX_BYTES:  # it was coded
            return None
    data = bytes(body)
    kind = image_type(response.headers.get("content-type") or "", data)
    digest = hashlib.sha256(data).hexdigest()
    return Icon(kind, data, digest) if kind else None
