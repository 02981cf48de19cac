"""``Clients``: the screens of people, as a service worker reaches them (§ Clients)."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from broker.registration import BackgroundFetchRegistration
from schemas.errors import InvalidAccess, InvalidURL
from schemas.urls import origin_of, parse_url
from workers.events import BackgroundFetchEvent


@dataclass(frozen=True, slots=True)
class Activation:
    """The click that a listener is answering: it may open one window."""

    event: BackgroundFetchEvent
    name: str
    """The event's name within its fetch."""

    @property
    def registration(self) -> BackgroundFetchRegistration:
        """The fetch that was clicked."""
        return self.event.registration


ACTIVATION: ContextVar[Activation | None] = ContextVar("activation", default=None)
"""Set by the runtime while a click is handled, for its listeners' own tasks too."""


@dataclass(frozen=True, slots=True)
class WindowClient:
    """A window that was asked for; the person opens it by following its link."""

    url: str


class Clients:
    """``self.clients`` of a service worker."""

    async def open_window(self, url: str) -> WindowClient | None:
        """Show ``url`` as a link to the person who clicked, else to all who watch.

        It is resolved against the scope's base. Returns the window if it has the
        scope's origin, None otherwise (BF-CLICK-05).

        Raises:
            InvalidURL: ``url`` cannot be parsed, or is ``about:blank``.
            InvalidAccess: no click is being handled, or it has opened a window.
        """
        activation = ACTIVATION.get()
        if url.strip().lower() == "about:blank":
            raise InvalidURL("a window cannot be opened on 'about:blank'")
        if activation is None:
            parse_url(url, "http://localhost/")
            raise InvalidAccess("open_window() needs a click: none is being handled")
        base = activation.registration.state.base_url
        target = parse_url(url, base)
        if not await activation.registration.open_window(activation.name, target):
            raise InvalidAccess(
                f"click {activation.name!r} has already opened a window, "
                f"so it cannot open {target!r}"
            )
        same = origin_of(target) == origin_of(base)
        return WindowClient(target) if same else None
