"""Finding fetches among very many: lists by state, read a page at a time.

Every fetch stands in lists that the scripts keep (``lua/_lists.lua``), in the order in
which fetches were registered; nobody ever scans keys. A page costs what it shows,
however long its list is. A filter that looks at each fetch looks at a bounded number of
them, and says where to go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import structlog

from broker.connection import Connection
from broker.keys import FetchKeys, ScopeKeys
from broker.lists import FetchList, Place
from broker.settings import Settings
from schemas.errors import InvalidFilter, InvalidMessage
from schemas.fetches import FetchState
from schemas.names import check_scope
from schemas.queries import EVERYTHING, FetchFilter, ListedState, Searched

T = TypeVar("T")
log = structlog.get_logger()

EXAMINED = 10_000
"""Fetches that one page looks at, at most."""
BATCH = 250
"""Fetches that are read in one round trip."""
_SEARCHED = ("id", "title", "hosts", "path", "failureReason", "priority")


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the fetches that were asked for."""

    items: tuple[FetchState, ...]
    cursor: str | None
    """Where to go on; None at the end of the list."""
    examined: int
    """How many fetches were looked at."""

    @property
    def exhausted(self) -> bool:
        """Whether nothing is left; else there may be more, however few are here."""
        return self.cursor is None


class Listing:
    """The lists of one Redis: of all scopes, or of one."""

    def __init__(self, connection: Connection, settings: Settings) -> None:
        self._connection = connection
        self._settings = settings

    async def counts(self, scope: str | None = None) -> dict[ListedState, int]:
        """Return how many fetches are in each state, in one round trip.

        Those in ``awaiting`` are in the state of their result, too.

        Raises:
            Unreachable: Redis does not answer.
        """
        sizes = await self._connection.ask_all(
            ("ZCARD", FetchList(scope, state).key) for state in ListedState
        )
        return dict(zip(ListedState, sizes, strict=True))

    async def page(
        self,
        *,
        scope: str | None = None,
        state: ListedState | None = None,
        filter: FetchFilter = EVERYTHING,
        cursor: str | None = None,
        limit: int = 50,
        newest_first: bool = True,
        examine: int = EXAMINED,
    ) -> Page:
        """Return up to ``limit`` retained fetches, in the order of their registration.

        Without ``state`` they are in any. ``cursor`` is that of the page before: none
        is then shown twice or left out, whatever is registered or forgotten meanwhile,
        unless it changes its state itself. Looks at ``examine`` fetches at most: a page
        may have fewer items than there are, and then says where to go on.

        Raises:
            InvalidFilter: ``cursor`` is no page's, or the filter asks for another scope
                or state.
            Unreachable: Redis does not answer.
        """
        chosen = FetchList(
            _narrowed("scope", scope, filter.scope),
            _narrowed("state", state, filter.state),
        )
        place = None if cursor is None else chosen.place(cursor)
        found: list[FetchState] = []
        examined, more = 0, True
        while more and len(found) < limit and examined < examine:
            wanted = BATCH if filter.is_searching else limit - len(found)
            wanted = min(wanted, BATCH, examine - examined)
            places = await self._after(
                chosen, place, wanted + 1, newest_first=newest_first
            )
            more = len(places) > wanted
            places = places[:wanted]
            hits = await self._matching(places, filter)
            if len(hits) > limit - len(found):
                hits, more = hits[: limit - len(found)], True
                places = places[: places.index(hits[-1]) + 1]
            found += await self._read(hits)
            examined += len(places)
            place = places[-1] if places else place
        return Page(tuple(found), str(place) if more and place else None, examined)

    async def newest(self, scope: str | None = None) -> str:
        """Return the cursor of a page that begins with the newest fetch of this moment.

        Raises:
            Unreachable: Redis does not answer.
        """
        if scope is None:
            seconds, micros = await self._connection.ask("TIME")
            order = 1_000_000 * int(seconds) + int(micros) + 1
        else:
            hash_ = ScopeKeys(check_scope(scope)).scope_hash
            order = int(await self._connection.ask("HGET", hash_, "seq") or 0) + 1
        return str(Place(order, FetchKeys(scope or "all", "0" * 32).member))

    async def _after(
        self,
        chosen: FetchList,
        place: Place | None,
        count: int,
        *,
        newest_first: bool,
    ) -> list[Place]:
        """The next places of a list; ``place`` itself may have left it."""
        first, last, *way = (
            ("+inf", "-inf", "REV") if newest_first else ("-inf", "+inf")
        )
        start = first if place is None else place.order
        found: list[Place] = []
        skipped = 0
        # More may have been registered in one microsecond than are read at a time.
        while len(found) < count:
            rows: list[tuple[bytes, float]] = await self._connection.ask(
                *("ZRANGE", chosen.key, start, last, "BYSCORE", *way),
                *("LIMIT", skipped, count + 1, "WITHSCORES"),
            )
            for member, order in rows:
                each = Place(int(order), chosen.prefix + member.decode())
                if place is None or (each < place if newest_first else each > place):
                    found.append(each)
            if len(rows) <= count:
                break
            skipped += len(rows)
        return found[:count]

    async def _matching(
        self, places: Sequence[Place], filter: FetchFilter
    ) -> list[Place]:
        if not filter.is_searching or not places:
            return list(places)
        rows = await self._connection.ask_all(
            ("HMGET", place.keys.fetch, *_SEARCHED) for place in places
        )
        return [
            place
            for place, (id, *rest) in zip(places, rows, strict=True)
            if id is not None and filter.matches(_searched(id, rest))
        ]

    async def _read(self, places: Iterable[Place]) -> list[FetchState]:
        """The fetches that are there: one may have been forgotten meanwhile."""
        rows: list[dict[bytes, bytes]] = await self._connection.ask_all(
            ("HGETALL", place.keys.fetch) for place in places
        )
        return [state for row in rows if (state := _state(row)) is not None]


def _narrowed(name: str, given: T | None, asked: T | None) -> T | None:
    if given is not None and asked is not None and given != asked:
        raise InvalidFilter(f"'{name}:{asked}' asks for others than those of '{given}'")
    return asked if given is None else given


def _searched(id: bytes, rest: Sequence[bytes | None]) -> Searched:
    told = [b"" if value is None else value for value in (id, *rest)]
    return Searched(*(value.decode(errors="replace") for value in told))


def _state(row: dict[bytes, bytes]) -> FetchState | None:
    try:
        return FetchState.found(row)
    except InvalidMessage as error:  # one that is damaged hides no others
        log.warning("registration_unreadable", error=str(error))
        return None
