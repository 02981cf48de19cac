"""The same objects for code without an event loop: one portal, no second face.

    from broker import blocking

    with blocking.connect(scope="podcasts") as background_fetch:
        registration = background_fetch.fetch("ep-5", ["https://cdn.example/ep-5.mp3"])
        for progress in registration.progress():
            print(progress.downloaded)

Every member is that of the asynchronous object: coroutines and awaitables are waited
for, asynchronous iterators become iterators, attributes are read as they are.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from typing import Any, NamedTuple

from anyio.from_thread import BlockingPortal, start_blocking_portal
from typing_extensions import override

from broker.dispatch import Dispatch
from broker.manager import BackgroundFetchManager
from broker.manager import connect as connect_async
from broker.record import BackgroundFetchRecord
from broker.registration import BackgroundFetchRegistration
from broker.response import Response
from broker.settings import Settings
from broker.subscribers import Subscribers
from schemas.bodies import BodyStream
from schemas.requests import Request

_FACES = (
    BackgroundFetchManager,
    BackgroundFetchRegistration,
    BackgroundFetchRecord,
    Response,
    Dispatch,
    Subscribers,
)


class _Loop(NamedTuple):
    portal: BlockingPortal

    def wrap(self, value: Any) -> Any:
        """Turn what the asynchronous face gives into its blocking counterpart."""
        if isinstance(value, _FACES):
            return Blocking(value, self)
        if isinstance(value, list):
            return [self.wrap(item) for item in value]
        if isinstance(value, AsyncIterator):
            return self.iterate(value)
        if inspect.isawaitable(value):
            return self.wrap(self.portal.call(_await, value))
        if isinstance(value, Request) and isinstance(value.body, BodyStream):
            return replace(value, body=self.iterate(aiter(value.body)))
        return value

    def iterate(self, values: AsyncIterator[Any]) -> Iterator[Any]:
        try:
            while True:
                try:
                    yield self.wrap(self.portal.call(values.__anext__))
                except StopAsyncIteration:
                    return
        finally:
            close = getattr(values, "aclose", None)
            if close is not None:
                self.portal.call(close)


class Blocking:
    """One object of the asynchronous face, as code without an event loop uses it."""

    def __init__(self, face: Any, loop: _Loop) -> None:
        object.__setattr__(self, "_face", face)
        object.__setattr__(self, "_loop", loop)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._face, name)
        if not inspect.ismethod(value):
            return self._loop.wrap(value)

        @wraps(value)
        def call(*arguments: Any, **options: Any) -> Any:
            # On the loop's own thread, where these objects live.
            returned = self._loop.portal.call(lambda: value(*arguments, **options))
            return self._loop.wrap(returned)

        return call

    @override
    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._face, name, value)

    @override
    def __repr__(self) -> str:
        return repr(self._face)


async def _await(value: Any) -> Any:
    return await value


@contextmanager
def connect(
    redis_url: str | None = None,
    *,
    scope: str,
    base_url: str | None = None,
    settings: Settings | None = None,
) -> Iterator[Any]:
    """Open the background fetches of ``scope``; as ``broker.connect``, but blocking.

    The objects may be used from any thread while the block is open. Listeners are
    called in the portal's thread.

    Raises what ``broker.connect`` raises.
    """
    opening = connect_async(
        redis_url, scope=scope, base_url=base_url, settings=settings
    )
    with (
        start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(opening) as manager,
    ):
        yield Blocking(manager, _Loop(portal))
