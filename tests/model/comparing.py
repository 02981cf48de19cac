"""What Redis says after a step, beside what the specification says."""

from __future__ import annotations

import asyncio
from typing import Any

from broker.keys import FetchKeys, ScopeKeys
from schemas import codec
from schemas.events import EventMessage, LetterState
from schemas.fetches import FetchState
from tests.model.fetches import Fetch
from tests.model.scope import Scope
from tests.model.world import SCOPE, World

_KEYS = ScopeKeys(SCOPE)
_PATIENCE = 30


def same(what: str, real: object, model: object) -> None:
    """Complain where the two differ."""
    if real != model:
        raise AssertionError(f"{what}: {real!r}, by the specification {model!r}")


async def compare(scope: Scope, world: World) -> None:
    """Compare everything that can be seen from outside."""
    same("active ids", await world.manager.get_ids(), list(scope.active))
    uids = [fetch.uid for fetch in scope.retained]
    listed = [state.uid for state in await world.manager.history(limit=1000)]
    same("history", listed, uids[::-1])
    for fetch in scope.fetches.values():
        await _compare_fetch(fetch, world)
    await _compare_stream(scope, world)
    await _compare_heard(scope, world)
    await _compare_letters(scope, world)


async def _compare_fetch(fetch: Fetch, world: World) -> None:
    keys = FetchKeys(SCOPE, fetch.uid)
    if fetch.gone:
        same(
            f"keys of {fetch.id}", await world.connection.ask("EXISTS", *keys.all()), 0
        )
        return
    fields, rows = await world.connection.ask_all(
        [("HGETALL", keys.fetch), ("HGETALL", keys.events)]
    )
    same(f"fetch {fetch.id}", _shown(FetchState.from_hash(fields)), _specified(fetch))
    told = {key.decode(): value.decode(errors="replace") for key, value in rows.items()}
    same(f"deliveries of {fetch.id}", _deliveries(told), _owed(fetch))


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


def _deliveries(rows: dict[str, str]) -> dict[str, Any]:
    """Of each event how many are done with it, and how each delivery stands."""
    found: dict[str, Any] = {}
    for name, row in rows.items():
        event, *more = name.split("|")
        words = row.split(" ")
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


async def _compare_stream(scope: Scope, world: World) -> None:
    """Each event is published once, in order; it says what was true then."""
    rows = await world.connection.ask("XRANGE", _KEYS.events, "-", "+")
    told = [EventMessage.decode(fields[b"message"]) for _, fields in rows]
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


async def _compare_heard(scope: Scope, world: World) -> None:
    """Objects that nobody asked anything know the same, once news have come."""
    before = world.manager.heard
    await world.connection.ask(
        "PUBLISH", _KEYS.progress, codec.encode({"uid": "nobody"})
    )
    async with asyncio.timeout(_PATIENCE):
        while world.manager.heard == before:  # noqa: ASYNC110 - the loop runs it
            await asyncio.sleep(0)
    for uid, registration in world.registrations.items():
        fetch = scope.fetches[uid]
        if fetch.gone:
            continue
        # Between two progress messages of an active fetch time may have to pass.
        seen, wanted = _shown(registration.state), _specified(fetch)
        for name in ("downloaded", "uploaded", "open records"):
            if not fetch.result:
                seen.pop(name), wanted.pop(name)
        same(f"object of {fetch.id}", seen, wanted)


async def _compare_letters(scope: Scope, world: World) -> None:
    letters = await world.letters.find()
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
