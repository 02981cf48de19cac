"""Messages of a real run are those that the schemas describe."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from jsonschema_rs import Draft202012Validator, ValidationError

from broker.keys import ABORTS, FetchKeys, ScopeKeys
from broker.manager import BackgroundFetchManager
from broker.policies import POLICY, write_policy
from broker.settings import Settings
from schemas import codec
from schemas.catalogue import schema_of
from schemas.fetches import Priority
from schemas.policies import ScopePolicy
from schemas.requests import Request
from tests.integration.clock import SCOPE
from tests.integration.delivering import Process, begin, collect, read
from tests.integration.outcomes import running
from tests.integration.working import perform
from workers.demo.origin import Origin
from workers.engine import Engine
from workers.events import BackgroundFetchEvent
from workers.service_worker import ServiceWorker

KEYS = ScopeKeys(SCOPE)
ENTRY = {
    *(b"delivery", b"message", b"id", b"version", b"number", b"v", b"state"),
}


def check(name: str, message: object) -> None:
    """Raise if a message is not as its schema says; bytes are base64 there."""
    schema = Draft202012Validator(schema_of(name))
    schema.validate(json.loads(json.dumps(message, default=_base64)))


def _base64(value: object) -> str:
    assert isinstance(value, bytes)
    return base64.b64encode(value).decode()


@asynccontextmanager
async def listening(
    manager: BackgroundFetchManager,
) -> AsyncIterator[list[tuple[str, bytes]]]:
    """Hear every channel of the scope; all that was told is there after the block."""
    heard: list[tuple[str, bytes]] = []
    async with manager.connection.redis.pubsub() as pubsub:
        channels = (KEYS.events, KEYS.progress, KEYS.clients, ABORTS, "end")
        await pubsub.subscribe(*channels)
        yield heard
        await manager.connection.ask("PUBLISH", "end", "")
        async with asyncio.timeout(30):
            async for told in pubsub.listen():
                if told["type"] == "message":
                    heard.append((told["channel"].decode(), told["data"]))
                    if heard[-1][0] == "end":
                        return


async def test_what_is_told_and_stored_in_a_run_is_as_the_schemas_say(
    manager: BackgroundFetchManager,
    engine: Engine,
    origin: Origin,
    settings: Settings,
) -> None:
    """Events, progress, windows; requests, records, policy, settlement."""
    origin.add("/x", bytes(300_000), headers={"X-Any": "é"})
    origin.add("/gone", b"no", status=404)
    sw = ServiceWorker(SCOPE)

    @sw.on("backgroundfetchclick")
    async def clicked(event: BackgroundFetchEvent) -> None:
        await sw.clients.open_window("/progress")

    policy = ScopePolicy(deny=("*.example",))
    await write_policy(manager.connection, SCOPE, policy)
    async with listening(manager) as heard, running(sw, settings) as outcomes:
        registration = await manager.fetch(
            "x",
            [
                origin.url("/x"),
                Request(
                    origin.url("/gone"), headers={"A": "b"}, priority=Priority.HIGH
                ),
                Request(origin.url("/x?1"), method="PUT", body=b"inline"),
                Request(origin.url("/x?2"), method="PUT", body=bytes(100_000)),
            ],
            title="Episode 5",
            icons=[{"src": "/5.png", "sizes": "48x48", "type": "image/png"}],
            download_total=2**63,
        )
        await perform(engine, registration)
        await registration.click()
        await outcomes.until("acked")
        await outcomes.until("acked")
        settled = await registration.settled()
        ended = await manager.fetch("y", "http://127.0.0.1/")
        await ended.abort()

    kinds = {KEYS.events: "event", KEYS.progress: "registration"}
    for channel, data in heard:
        if channel in kinds:
            check(kinds[channel], codec.decode(data))
        elif channel == KEYS.clients:
            check("window", codec.decode(data))
        elif channel == ABORTS:
            assert data == ended.uid.encode()
    assert {channel for channel, _ in heard} == {
        *kinds, KEYS.clients, ABORTS, "end"
    }  # fmt: skip
    entries = await manager.connection.ask("XRANGE", KEYS.events, "-", "+")
    for _, fields in entries:
        assert set(fields) == ENTRY
        check("event", codec.decode(fields[b"message"]))
    assert len(entries) == 3
    keys = FetchKeys(SCOPE, registration.uid)
    for row in await manager.connection.ask("HVALS", keys.requests):
        check("request", codec.decode(row))
    for row in await manager.connection.ask("HVALS", keys.records):
        check("record", codec.decode(row))
    text = await manager.connection.ask("HGET", keys.fetch, POLICY)
    check("policy", json.loads(text))
    check("settlement", settled)


async def test_a_dead_letter_is_as_its_schema_says(
    manager: BackgroundFetchManager, process: Process
) -> None:
    subscriber = await process("a")
    await (await manager.fetch("x", "https://cdn.example/")).abort()
    for _ in range(manager.settings.max_deliveries):
        rows = await read(subscriber) or await collect(subscriber)
        begun = await begin(subscriber, rows[0])
        await subscriber.nack(begun, failed=True, delay=timedelta(0), reason="no luck")

    letters = await manager.connection.ask("HVALS", KEYS.subscriber("a").dead)

    assert len(letters) == 1
    check("dead-letter", codec.decode(letters[0]))


def test_a_message_that_breaks_its_schema_is_told() -> None:
    with pytest.raises(ValidationError):
        check("registration", {"id": "x", "scope": "s", "uid": 5})
