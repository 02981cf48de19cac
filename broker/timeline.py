"""The timeline of one background fetch, from what its keys know; nothing is scanned.

Scripts note in its journal what leaves no other trace (``lua/_journal.lua``): the
newest two hundred such moments are kept, as long as the fetch. Everything else has its
time where it is kept anyway.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from broker.connection import Connection
from broker.keys import FetchKeys
from schemas.timelines import Happening, Moment

_ABOUT_EVENTS = frozenset(
    {
        Happening.BEGUN,
        Happening.FAILED,
        Happening.HANDED_BACK,
        Happening.ACKED,
        Happening.PURGED,
        Happening.EXPIRED,
        Happening.REMOVED,
    }
)
_ORDER = {
    Happening.CREATED: 0,
    Happening.ENDED: 2,
    Happening.PUBLISHED: 3,
    Happening.RELEASED: 5,
}
_KNOWN = frozenset(Happening)


async def timeline(connection: Connection, keys: FetchKeys) -> tuple[Moment, ...]:
    """Return what happened to a fetch, oldest first; empty if it is not retained.

    Raises:
        Unreachable: Redis does not answer.
    """
    fields, journal, events = await connection.ask_all(
        [
            ("HGETALL", keys.fetch),
            ("LRANGE", keys.journal, 0, -1),
            ("HGETALL", keys.events),
        ]
    )
    if not fields or b"removed" in fields:
        return ()
    known = {
        name.decode(): value.decode(errors="replace") for name, value in fields.items()
    }
    moments = [*_own(known), *map(_noted, journal), *_published(events)]
    return tuple(sorted(filter(None, moments), key=_place))


def _place(moment: Moment) -> tuple[int, int]:
    """What one script did bears one time: then causes stand before what they cause."""
    order = _ORDER.get(moment.what, 4 if moment.what in _ABOUT_EVENTS else 1)
    return moment.at, order


def _own(known: Mapping[str, str]) -> Iterator[Moment]:
    count, again = known.get("records", "0"), known.get("retryOf", "")
    told = [f"{count} request{'s' * (count != '1')}"]
    told.append(f"priority {known.get('priority', 'auto')}")
    if again:
        told.append(f"retry of {again}")
    yield Moment(
        at=int(known["createdAt"]), what=Happening.CREATED, detail=", ".join(told)
    )
    if ended := int(known.get("settledAt", 0)):
        outcome = known.get("failureReason") or known.get("result", "")
        yield Moment(at=ended, what=Happening.ENDED, detail=outcome)
    if released := int(known.get("releasedAt", 0)):
        yield Moment(at=released, what=Happening.RELEASED)


def _noted(line: bytes) -> Moment | None:
    at, _, rest = line.decode(errors="replace").partition(" ")
    what, _, words = rest.partition(" ")
    if what not in _KNOWN:  # a later release notes more
        return None
    happening = Happening(what)
    if happening not in _ABOUT_EVENTS:
        return Moment(at=int(at), what=happening, detail=words)
    event, subscriber, attempt, *why = words.split(" ", 3)
    detail = f"attempt {attempt}" + (f": {why[0]}" if why and why[0] else "")
    return Moment(
        at=int(at), what=happening, detail=detail, event=event, subscriber=subscriber
    )


def _published(events: Mapping[bytes, bytes]) -> Iterator[Moment]:
    for name, value in events.items():
        if b"|" in name:
            continue
        entry, _, owed, *_ = value.decode().split(" ")
        whom = {"-": "nobody has subscribed yet", "1": "owed to 1 subscriber"}
        yield Moment(
            at=int(entry.partition("-")[0]),
            what=Happening.PUBLISHED,
            detail=whom.get(owed, f"owed to {owed} subscribers"),
            event=name.decode(),
        )
