"""What Redis says after a step, beside what the specification says."""

from __future__ import annotations

import asyncio
from typing import Any

from broker.keys import ScopeKeys
from schemas import codec
from schemas.events import DeadLetter, EventMessage, LetterState
from schemas.fetches import FetchState
from tests.model.fetches import Fetch
from tests.model.scope import Scope
from tests.model.world import NOBODY, SCOPE, World

Entries = list[tuple[bytes, dict[bytes, bytes]]]

_KEYS = ScopeKeys(SCOPE)
_PATIENCE = 30


def same(what: str, real: object, model: object) -> None:
    """Complain where the two differ."""
    if real != model:
        raise AssertionError(f"{what}: {real!r}, by the specification {model!r}")


async def compare(scope: Scope, world: World) -> None:
    """Compare everything that can be seen, read in one moment."""
    world.manager.news.clear()
    names, kept, gone = sorted(scope.subscribers), scope.retained, _gone(scope)
    active, fetches, entries, left, _, *rows = await world.connection.ask_all(
        [
            ("HGETALL", _KEYS.active),
            ("ZRANGE", _KEYS.fetches, 0, -1),
            ("XRANGE", _KEYS.events, "-", "+"),
            ("EXISTS", *gone, "bgfetch:nothing"),
            ("PUBLISH", _KEYS.progress, codec.encode({"uid": NOBODY})),
            *(("HGETALL", _KEYS.subscriber(name).dead) for name in names),
            *(command for fetch in kept for command in _commands(fetch)),
        ]
    )
    ids = sorted(active, key=lambda id: int(active[id].partition(b":")[0]))
    same("active ids", [id.decode() for id in ids], list(scope.active))
    same("retained", [uid.decode() for uid in fetches], [each.uid for each in kept])
    same("keys of forgotten fetches", left, 0)
    _compare_stream(scope, entries)
    _compare_letters(scope, rows[: len(names)])
    told = rows[len(names) :]
    for fetch, fields, events in zip(kept, told[::2], told[1::2], strict=True):
        shown = _shown(FetchState.from_hash(fields))
        same(f"fetch {fetch.id}", shown, _specified(fetch))
        same(f"deliveries of {fetch.id}", _deliveries(events), _owed(fetch))
    async with asyncio.timeout(_PATIENCE):
        await world.manager.news.wait()
    _compare_objects(scope, world)


def _gone(scope: Scope) -> list[str]:
    forgotten = [fetch.uid for fetch in scope.fetches.values() if fetch.gone]
    return [key for uid in forgotten for key in _KEYS.fetch(uid).all()]


def _commands(fetch: Fetch) -> list[tuple[str, str]]:
    keys = _KEYS.fetch(fetch.uid)
    return [("HGETALL", keys.fetch), ("HGETALL", keys.events)]


def _shown(state: FetchState) -> dict[str, Any]:
    return {
        "id": state.id,
        "result": state.result,
        "reason": state.failure_reason,
        "downloaded": state.downloaded,
        "uploaded": state.uploaded,
        "upload total": state.upload_total,
        "download total": state.download_total,
        "records available": state.records_available,
        "paused": state.paused,
        "open records": state.open_records,
    }


def _specified(fetch: Fetch) -> dict[str, Any]:
    return {
        "id": fetch.id,
        "result": fetch.result,
        "reason": fetch.reason,
        "downloaded": fetch.downloaded,
        "uploaded": fetch.uploaded,
        "upload total": fetch.upload_total,
        "download total": fetch.download_total,
        "records available": fetch.available,
        "paused": fetch.paused,
        "open records": fetch.open,
    }


def _deliveries(rows: dict[bytes, bytes]) -> dict[str, Any]:
    """Of each event how many are done with it, and how each delivery stands."""
    found: dict[str, Any] = {}
    for key, row in rows.items():
        name = key.decode()
        event, *more = name.split("|")
        words = row.decode(errors="replace").split(" ")
        if not more:
            found[event] = (words[2], int(words[3]), words[4])
        elif len(more) == 1:
            found[name] = (words[0], int(words[1]), int(words[2]))
    return found


def _owed(fetch: Fetch) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for event in fetch.events:
        owed = "-" if event.open else str(len(event.owed))
        done = sum(bool(each.outcome) for each in event.owed.values())
        found[event.name] = (owed, done, event.predecessor or "-")
        for name, each in event.owed.items():
            if each.status != "new":
                stands = (each.status, each.failures, each.attempt)
                found[f"{event.name}|{name}"] = stands
    return found


def _compare_stream(scope: Scope, entries: Entries) -> None:
    """Each event is published once, in order; it says what was true then."""
    told = [EventMessage.decode(fields[b"message"]) for _, fields in entries]
    found = [
        (
            message.registration.uid,
            message.event,
            str(message.type),
            message.predecessor,
            str(message.registration.result),
            str(message.registration.failure_reason),
        )
        for message in told
    ]
    wanted = [
        (uid, each.name, each.type, each.predecessor, each.result, each.reason)
        for uid, each in scope.published
        if not scope.fetches[uid].gone
    ]
    same("events", found, wanted)
    for message in told:
        if "click" not in message.event:
            same("records at the event", message.registration.records_available, True)


def _compare_letters(scope: Scope, rows: list[dict[bytes, bytes]]) -> None:
    letters = [DeadLetter.decode(value) for row in rows for value in row.values()]
    found = {
        (letter.uid, letter.event, letter.subscriber)
        for letter in letters
        if letter.state is not LetterState.EXPIRED
    }
    wanted = {
        (fetch.uid, event.name, name)
        for fetch in scope.retained
        for event in fetch.events
        for name, each in event.owed.items()
        if each.status == "dead"
    }
    same("dead letters", found, wanted)


def _compare_objects(scope: Scope, world: World) -> None:
    """Objects that nobody asked anything know the same, once news have come."""
    for fetch in scope.retained:
        seen = _shown(world.registrations[fetch.uid].state)
        wanted = _specified(fetch)
        for name in ("downloaded", "uploaded", "open records"):
            if not fetch.result:  # time may have to pass before it is told of
                del seen[name], wanted[name]
        same(f"object of {fetch.id}", seen, wanted)


async def compare_leavings(world: World) -> None:
    """Nothing is left of forgotten fetches and of subscribers that were removed."""
    ask = world.connection.ask
    keys: list[bytes] = await ask("KEYS", "bgfetch:*")
    left = {key.decode() for key in keys}
    now = await world.connection.now()
    left -= {"bgfetch:scopes", "bgfetch:reclaim", _KEYS.scope_hash, _KEYS.subscribers}
    for key in sorted(left):
        # A job that nobody took out of the queue has its place until that expires.
        if ":places:" in key and not await ask("ZCOUNT", key, now, "+inf"):
            left.discard(key)
    same("keys that are left", left - {_KEYS.events}, set())
    same("entries that are left", await ask("XLEN", _KEYS.events), 0)
