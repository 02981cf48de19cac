"""Carry out background fetches, and handle their events (§ Algorithms, § Events)."""

try:
    from schemas import siblings
except ImportError as error:
    import schemas

    raise ImportError(
        f"{__path__[0]} needs its own package 'schemas' beside it, but Python finds "
        f"{next(iter(schemas.__path__))}: rename that one, or take it off sys.path"
    ) from error

from workers.clients import Clients, WindowClient
from workers.events import (
    BackgroundFetchEvent,
    BackgroundFetchUpdateUIEvent,
    ExtendableEvent,
)
from workers.runtime import Runtime
from workers.service_worker import ServiceWorker

siblings.check()

__all__ = [
    "BackgroundFetchEvent",
    "BackgroundFetchUpdateUIEvent",
    "Clients",
    "ExtendableEvent",
    "Runtime",
    "ServiceWorker",
    "WindowClient",
]
