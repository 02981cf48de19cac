"""``ServiceWorker``: the program of a subscriber, made of listeners."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TypeVar

from typing_extensions import override

from broker.inbox import Start, check_start
from schemas.errors import ConfigError
from schemas.events import EventType
from schemas.filters import ALL, EventFilter
from schemas.listeners import ListenerList, Slot
from schemas.names import check_scope, check_subscriber
from workers.clients import Clients

# Listeners take the class that their event has (BF-IDL-17), so the argument is open.
Listener = Callable[..., Awaitable[object] | object]
AnyListener = TypeVar("AnyListener", bound=Listener)


class ServiceWorker:
    """Listeners for the events of one scope, run by ``bgfetch subscribe``.

    An ``async def`` listener extends its event until it returns; a plain ``def`` runs
    in a thread, and its event ends when it returns unless it called ``wait_until``.

    Each event goes to every subscriber ``name`` of the scope, and within one to a
    single process, at least once.
    """

    onbackgroundfetchsuccess: Slot[Listener] = Slot()
    onbackgroundfetchfail: Slot[Listener] = Slot()
    onbackgroundfetchabort: Slot[Listener] = Slot()
    onbackgroundfetchclick: Slot[Listener] = Slot()

    def __init__(
        self,
        scope: str,
        *,
        name: str = "default",
        types: Iterable[str] | None = None,
        ids: str = ALL,
        start: Start = "new",
    ) -> None:
        """Without a filter, every event of the scope is owed to the subscriber.

        ``types`` and ``ids``, a pattern as in ``"ep-*"``, are the subscriber's filter:
        what they exclude is not owed to it and keeps no records. ``*`` stands for any
        characters, everything else for itself. A filter is the subscriber's, not the
        process's: the last process to start decides, for events from then on.

        ``start`` is where a subscriber that is new begins: with the ``"new"`` events,
        with ``"all"`` that are still there, at a ``datetime``, or a ``timedelta`` ago.
        Events that are older than the subscriber are delivered, but not owed: their
        records may be released.

        Raises:
            InvalidName: ``scope`` or ``name`` has the wrong form.
            ConfigError: there is no such event, ``ids`` is no pattern, or ``start`` is
                none of these.
        """
        self.scope = check_scope(scope)
        self.name = check_subscriber(name)
        self.takes = EventFilter.of(types, ids)
        self.start = check_start(start)
        self.clients = Clients()
        self._listeners: dict[str, ListenerList[Listener]] = {
            type: ListenerList() for type in EventType
        }

    @override
    def __repr__(self) -> str:
        return f"ServiceWorker({self.scope!r}, name={self.name!r})"

    def on(self, type: str) -> Callable[[AnyListener], AnyListener]:
        """Decorate a function to be called with each event of this type.

        Raises:
            ConfigError: there is no such event.
        """
        checked = _check_type(type)

        def register(listener: AnyListener) -> AnyListener:
            self.add_event_listener(checked, listener)
            return listener

        return register

    def add_event_listener(self, type: str, listener: Listener) -> None:
        """Call ``listener`` with each event of this type; adding it twice is once.

        Listeners are called in the order in which they were added; the handler slot
        has the place of its first setting.

        Raises:
            ConfigError: there is no such event.
        """
        self._listeners[_check_type(type)].add(listener)

    def remove_event_listener(self, type: str, listener: Listener) -> None:
        """Undo ``add_event_listener``; unknown listeners are ignored.

        Raises:
            ConfigError: there is no such event.
        """
        self._listeners[_check_type(type)].remove(listener)

    def listeners(self, type: EventType) -> Iterator[Listener]:
        """What to call for one event, the handler slot and listeners as they came."""
        return self._listeners[type].calls()


def _check_type(type: str) -> EventType:
    try:
        return EventType(type)
    except ValueError as error:
        known = ", ".join(repr(str(known)) for known in EventType)
        raise ConfigError(f"no event {type!r}: there are {known}") from error
