"""What a person asks for among very many fetches, as text and as a value.

    scope:podcasts state:failed reason:bad-status id:ep-* host:cdn.example q:"free text"

``id`` and ``host`` are patterns, in which ``*`` stands for any characters. Several of
one kind mean any of them, different kinds all of them. ``q``, or a word by itself, is
looked for in the title, the id, the hosts, the path of the first URL and the failure
reason, whatever the case; several must all be there. What failed within a record, and
URLs behind the first, are not searched: they are not kept with the fetch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Self, TypeVar

from typing_extensions import override

from schemas.errors import InvalidFilter, InvalidName
from schemas.fetches import FailureReason, Priority
from schemas.names import check_scope
from schemas.qualifiers import read_qualifiers, shown, write_qualifiers

_E = TypeVar("_E", bound=StrEnum)


class ListedState(StrEnum):
    """The lists by state in which fetches are found."""

    ACTIVE = "active"
    PAUSED = "paused"
    """Also while it waits for permission."""
    SUCCESS = "success"
    FAILURE = "failure"
    """For another reason than an abort."""
    ABORTED = "aborted"
    AWAITING = "awaiting"
    """Ended, and its records are held: for subscribers that have not settled, or by its
    producer. It is in the list of its result, too."""


_SYNONYMS = {"failed": ListedState.FAILURE, "succeeded": ListedState.SUCCESS}


def listed_state(name: str) -> ListedState:
    """The state that a person means by ``failure``, or ``failed``.

    Raises:
        InvalidFilter: there is no such state.
    """
    return _SYNONYMS.get(name) or _one_of("state", name, ListedState)


class Searched(NamedTuple):
    """What a filter looks at of one fetch."""

    id: str
    title: str = ""
    hosts: str = ""
    """``host``, or ``host:port`` where it is not the default, separated by blanks."""
    path: str = ""
    reason: str = ""
    priority: str = Priority.AUTO


@dataclass(frozen=True, slots=True)
class FetchFilter:
    """The fetches that are asked for; by default all. ``str`` gives it as text."""

    scope: str | None = None
    state: ListedState | None = None
    reasons: frozenset[FailureReason] = frozenset()
    ids: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    priorities: frozenset[Priority] = frozenset()
    words: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        *,
        scope: str | None = None,
        state: str | None = None,
        reasons: Iterable[str] = (),
        ids: Iterable[str] = (),
        hosts: Iterable[str] = (),
        priorities: Iterable[str] = (),
        words: Iterable[str] = (),
    ) -> Self:
        """Check the fields of a form.

        Raises:
            InvalidFilter: one cannot be understood; the message shows it.
        """
        return cls(
            None if scope is None else _scope(scope),
            None if state is None else listed_state(state),
            frozenset(_one_of("reason", each, FailureReason) for each in reasons),
            tuple(_given("id", each) for each in ids),
            tuple(_given("host", each).lower() for each in hosts),
            frozenset(_one_of("priority", each, Priority) for each in priorities),
            tuple(_given("q", each) for each in words),
        )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what a person typed, or what ``str`` gives.

        Raises:
            InvalidFilter: a part cannot be understood; the message shows it.
        """
        given: dict[str, list[str]] = {name: [] for name in _QUALIFIERS}
        for qualifier, value in read_qualifiers(text, _QUALIFIERS):
            given[qualifier].append(value)
        for name in ("scope", "state"):
            if len(given[name]) > 1:
                two = " and ".join(f"{name}:{value}" for value in given[name][:2])
                raise InvalidFilter(f"only one {name} can be asked for, got {two}")
        return cls.of(
            scope=next(iter(given["scope"]), None),
            state=next(iter(given["state"]), None),
            reasons=given["reason"],
            ids=given["id"],
            hosts=given["host"],
            priorities=given["priority"],
            words=given["q"],
        )

    @override
    def __str__(self) -> str:
        parts: list[tuple[str, Iterable[str]]] = [
            ("scope", [] if self.scope is None else [self.scope]),
            ("state", [] if self.state is None else [self.state]),
            ("reason", sorted(self.reasons)),
            ("id", self.ids),
            ("host", self.hosts),
            ("priority", sorted(self.priorities)),
            ("q", self.words),
        ]
        return write_qualifiers([(name, each) for name, all in parts for each in all])

    @property
    def is_searching(self) -> bool:
        """Whether it asks for more than a scope and a state, so looks at each fetch."""
        return bool(
            self.reasons or self.ids or self.hosts or self.priorities or self.words
        )

    def matches(self, fetch: Searched) -> bool:
        """Whether a fetch of the right scope and state is asked for."""
        if self.reasons and fetch.reason not in self.reasons:
            return False
        if self.priorities and fetch.priority not in self.priorities:
            return False
        if self.ids and not any(_matches(each, fetch.id) for each in self.ids):
            return False
        if self.hosts and not self._has_host(fetch.hosts.split()):
            return False
        if not self.words:
            return True
        told = "\n".join((fetch.title, fetch.id, fetch.hosts, fetch.path, fetch.reason))
        folded = told.casefold()
        return all(word.casefold() in folded for word in self.words)

    def _has_host(self, hosts: Iterable[str]) -> bool:
        return any(
            _matches(pattern, host) or _matches(pattern, _without_port(host))
            for host in hosts
            for pattern in self.hosts
        )


EVERYTHING = FetchFilter()
"""Asks for nothing in particular."""

_QUALIFIERS = ("scope", "state", "reason", "id", "host", "priority", "q")


def _scope(name: str) -> str:
    try:
        return check_scope(name)
    except InvalidName as error:
        raise InvalidFilter(f"{shown(f'scope:{name}')}: {error}") from error


def _one_of(qualifier: str, value: str, choices: type[_E]) -> _E:
    known = [choice for choice in choices if choice]
    if value not in known:
        raise InvalidFilter(
            f"{shown(f'{qualifier}:{value}')}: there is no such {qualifier}; "
            f"there are {', '.join(known)}"
        )
    return choices(value)


def _given(qualifier: str, value: str) -> str:
    if not value.strip():
        raise InvalidFilter(f"'{qualifier}:' has no value")
    return value


def _without_port(host: str) -> str:
    return host if host.endswith("]") else host.rpartition(":")[0] or host


def _matches(pattern: str, text: str) -> bool:
    """In time that grows with the text alone, however many stars there are."""
    if "*" not in pattern:
        return text == pattern
    first, *middle, last = re.split(r"\*+", pattern)
    if not (text.startswith(first) and text[len(first) :].endswith(last)):
        return False
    at, end = len(first), len(text) - len(last)
    for piece in middle:
        found = text.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True
