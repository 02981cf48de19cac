"""Requests with an Idempotency-Key are carried out once (R23)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from httpx2 import AsyncClient

from broker.gateway.once import Call, fingerprint, key_of
from broker.manager import BackgroundFetchManager
from schemas.errors import Unreachable
from tests.integration.clock import SCOPE

URL = "https://cdn.example/ep-5.mp3"
FETCHES = f"/api/v1/scopes/{SCOPE}/fetches"
BODY = json.dumps({"id": "x", "requests": URL}).encode()
KEY = {"Idempotency-Key": '"a key"', "Content-Type": "application/json"}


async def test_the_same_request_has_the_same_answer(
    gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    first = await gateway.post(FETCHES, content=BODY, headers=KEY)
    again = await gateway.post(FETCHES, content=BODY, headers=KEY)
    bare = await gateway.post(
        FETCHES, content=BODY, headers=KEY | {"Idempotency-Key": "a-key"}
    )

    assert first.status_code == again.status_code == 201
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert bare.status_code == 409
    assert len(await manager.history()) == 1


async def test_another_request_may_not_have_the_same_key(gateway: AsyncClient) -> None:
    await gateway.post(FETCHES, content=BODY, headers=KEY)

    body = await gateway.post(FETCHES, content=BODY + b" ", headers=KEY)
    address = await gateway.post(FETCHES + "?q", content=BODY, headers=KEY)
    no_key = await gateway.post(
        FETCHES, content=BODY, headers=KEY | {"Idempotency-Key": '"'}
    )

    for answer in (body, address):
        assert answer.status_code == 422
        assert answer.json()["type"] == "/problems/idempotency-key-reused"
    assert no_key.json()["type"] == "/problems/wrong-form"


async def test_a_request_that_is_being_carried_out_is_not_begun_again(
    gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    arrived, rest = asyncio.Event(), asyncio.Event()
    headers = KEY | {"Content-Type": "multipart/form-data; boundary=b"}

    async def slowly() -> AsyncIterator[bytes]:
        form = {"id": "x", "requests": {"url": URL, "method": "PUT"}}
        form["requests"]["body"] = {"part": "f"}  # type: ignore[index]
        yield part("fetch", json.dumps(form).encode()) + part("f", b"some")[:-2]
        arrived.set()
        await rest.wait()
        yield b" more\r\n--b--\r\n"

    first = asyncio.create_task(
        gateway.post(FETCHES, content=slowly(), headers=headers, timeout=60)
    )
    await arrived.wait()
    async with asyncio.timeout(30):
        while not await manager.connection.ask("KEYS", "bgfetch:call:*"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    second = await gateway.post(
        FETCHES, content=b"".join([x async for x in _form()]), headers=headers
    )
    rest.set()

    assert (second.status_code, second.headers["retry-after"]) == (409, "1")
    assert second.json()["type"] == "/problems/idempotency-key-in-use"
    assert (await first).status_code == 201


async def _form() -> AsyncIterator[bytes]:
    form = {
        "id": "x",
        "requests": {"url": URL, "method": "PUT", "body": {"part": "f"}},
    }
    yield part("fetch", json.dumps(form).encode()) + b"--b--\r\n"


def part(name: str, content: bytes) -> bytes:
    """A part of a form with the boundary ``b``."""
    head = f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
    return head.encode() + content + b"\r\n"


async def test_what_a_dead_process_did_is_found_and_not_done_again(
    gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    """R23: it died between registering and keeping the answer."""
    connection = manager.connection
    key = key_of("anybody", KEY["Idempotency-Key"])
    dead = Call(connection, key, manager.settings.lease)
    await dead.begin(fingerprint(f"POST {FETCHES}?".encode(), BODY))
    await manager.fetch("x", URL, token=dead.token)
    held = await gateway.post(FETCHES, content=BODY, headers=KEY)
    assert dead._renewing is not None
    dead._renewing.cancel()

    await connection.ask("HINCRBY", key, "until", -60_000)
    found = await gateway.post(FETCHES, content=BODY, headers=KEY)

    assert held.status_code == 409
    assert (found.status_code, found.json()["uid"]) == (201, dead.token)
    assert len(await manager.history()) == 1
    assert 0 < await connection.ask("TTL", key) <= 24 * 60 * 60


async def test_a_click_that_is_sent_twice_is_one_event(gateway: AsyncClient) -> None:
    made = await gateway.post(FETCHES, content=BODY, headers=KEY)
    at = f"{FETCHES}/{made.json()['uid']}"
    first, second = {"Idempotency-Key": "1"}, {"Idempotency-Key": "2"}

    clicks = [
        await gateway.post(f"{at}/click", headers=headers)
        for headers in (first, first, second)
    ]
    aborts = [
        await gateway.post(f"{at}/abort", headers={"Idempotency-Key": "3"})
        for _ in range(2)
    ]

    names = [each.json()["event"].rpartition(".")[2] for each in clicks]
    assert names == ["1", "1", "2"]
    assert [each.status_code for each in clicks] == [202] * 3
    assert [each.json()["aborted"] for each in aborts] == [True, True]


async def test_a_refusal_leaves_the_key_free(
    gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    registration = await manager.fetch("x", URL)
    refused = await gateway.post(FETCHES, content=BODY, headers=KEY)
    await registration.abort()

    accepted = await gateway.post(FETCHES, content=BODY, headers=KEY)

    assert (refused.status_code, accepted.status_code) == (409, 201)


async def test_a_key_in_doubt_keeps_its_token(
    gateway: AsyncClient,
    manager: BackgroundFetchManager,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """R23: the answer was lost behind the registration, and the client told of it."""
    register = BackgroundFetchManager.fetch

    async def lost(self: BackgroundFetchManager, *args: object, **kw: object) -> object:
        await register(self, *args, **kw)  # type: ignore[arg-type]
        raise Unreachable("no answer")

    monkeypatch.setattr(BackgroundFetchManager, "fetch", lost)
    away = await gateway.post(FETCHES, content=BODY, headers=KEY)
    monkeypatch.undo()
    found = await gateway.post(FETCHES, content=BODY, headers=KEY)

    [state] = await manager.history()
    assert (away.status_code, found.status_code) == (503, 201)
    assert found.json()["uid"] == state.uid
