"""The lists in which fetches stand, and places in them (``lua/_lists.lua``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self

from typing_extensions import override

from broker.keys import FETCHES, FetchKeys, ScopeKeys, listed
from schemas.errors import InvalidFilter, InvalidName
from schemas.names import check_scope, is_uid
from schemas.queries import ListedState

_MICROSECONDS = 10**14
"""What microseconds since the epoch exceed, and no ``seq`` ever does."""


class Place(NamedTuple):
    """Where a fetch stands in a list; places compare as the list is ordered."""

    order: int
    """Its ``seq`` in the lists of a scope; in those of all scopes the microseconds
    since the epoch at which it was registered, by Redis's clock."""
    member: str

    @classmethod
    def parse(cls, cursor: str) -> Self:
        """Read what ``str`` gives.

        Raises:
            InvalidFilter: it is no such text.
        """
        order, _, member = cursor.partition("/")
        scope, _, uid = member.partition("/")
        try:
            if (
                order.isascii()
                and order.isdigit()
                and check_scope(scope)
                and is_uid(uid)
            ):
                return cls(int(order), member)
        except (InvalidName, ValueError):
            pass
        raise InvalidFilter(f"{cursor!r} is no place in a list: use a page's cursor")

    @override
    def __str__(self) -> str:
        return f"{self.order}/{self.member}"

    @property
    def keys(self) -> FetchKeys:
        """The keys of the fetch that stands here."""
        return FetchKeys(*self.member.split("/", 1))


@dataclass(frozen=True, slots=True)
class FetchList:
    """One of them: of a scope or of all, of a state or of any."""

    scope: str | None
    state: ListedState | None

    @property
    def key(self) -> str:
        """Its ZSET."""
        if self.scope is None:
            return FETCHES if self.state is None else listed(self.state)
        keys = ScopeKeys(check_scope(self.scope))
        return keys.fetches if self.state is None else keys.listed(self.state)

    @property
    def prefix(self) -> str:
        """What the names in this list lack."""
        return "" if self.scope is None else f"{self.scope}/"

    def place(self, cursor: str) -> Place:
        """Read a cursor.

        Raises:
            InvalidFilter: it is none, or one of lists of other scopes.
        """
        place = Place.parse(cursor)
        if (self.scope is None) is (place.order < _MICROSECONDS):
            raise InvalidFilter(f"{cursor!r} is a place in the lists of other scopes")
        return place
