"""The listeners of an event at its target, called as the DOM calls them (DOM § 2.7)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

Listener = TypeVar("Listener")


@dataclass(slots=True, eq=False)
class _Entry(Generic[Listener]):
    listener: Listener
    once: bool = False
    removed: bool = False


class ListenerList(Generic[Listener]):
    """The listeners of one event, in the order in which they were added.

    The handler slot is one of them. Its place is that of its first setting, whatever
    it is set to later; set to None it loses its place.
    """

    def __init__(self) -> None:
        self._entries: list[_Entry[Listener]] = []
        self._slot: _Entry[Listener] | None = None

    def __bool__(self) -> bool:
        return bool(self._entries)

    @property
    def slot(self) -> Listener | None:
        """What the handler slot is set to."""
        return self._slot.listener if self._slot else None

    @slot.setter
    def slot(self, listener: Listener | None) -> None:
        if self._slot is not None and listener is not None:
            self._slot.listener = listener
            return
        if self._slot is not None:
            self._drop(self._slot)
        self._slot = None if listener is None else self._append(listener)

    def add(self, listener: Listener, *, once: bool = False) -> None:
        """Add a listener; what was added before stays as it was."""
        if self._find(listener) is None:
            self._append(listener, once)

    def remove(self, listener: Listener) -> None:
        """Remove a listener, from a call under way too; unknown ones are ignored."""
        found = self._find(listener)
        if found is not None:
            self._drop(found)

    def calls(self) -> Iterator[Listener]:
        """Yield what to call for one event, each when its turn has come.

        One that is removed meanwhile is not called, nor one that is added. One that
        was added for ``once`` is removed before its call.
        """
        for entry in list(self._entries):
            if entry.removed:
                continue
            if entry.once:
                self._drop(entry)
            yield entry.listener

    def _find(self, listener: Listener) -> _Entry[Listener] | None:
        added = (each for each in self._entries if each is not self._slot)
        # Equal, not the same: a bound method is another object each time.
        return next((each for each in added if each.listener == listener), None)

    def _append(self, listener: Listener, once: bool = False) -> _Entry[Listener]:
        entry = _Entry(listener, once)
        self._entries.append(entry)
        return entry

    def _drop(self, entry: _Entry[Listener]) -> None:
        entry.removed = True
        self._entries.remove(entry)


class Target(Protocol[Listener]):
    """What has handler slots."""

    @property
    def _listeners(self) -> Mapping[str, ListenerList[Listener]]:
        """The listeners by the event's type."""


class Slot(Generic[Listener]):
    """A handler slot, an attribute that is called ``on`` and the event's type."""

    def __set_name__(self, owner: type[object], name: str) -> None:
        self._type = name.removeprefix("on")

    def __get__(self, target: Target[Listener], owner: type[object]) -> Listener | None:
        return target._listeners[self._type].slot

    def __set__(self, target: Target[Listener], listener: Listener | None) -> None:
        target._listeners[self._type].slot = listener
