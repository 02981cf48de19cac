"""Bodies over HTTP: in whole, in part, coded, while they arrive, and harmless."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import random

import pytest
from httpx2 import AsyncClient, RemoteProtocolError

from broker.manager import BackgroundFetchManager
from broker.registration import BackgroundFetchRegistration
from schemas.requests import Request
from tests.integration.clock import SCOPE
from tests.integration.working import perform
from workers.demo.origin import Origin
from workers.engine import Engine

BODY = random.Random(5).randbytes(3 * 1024**2)
SHA256 = hashlib.sha256(BODY).hexdigest()


def at(registration: BackgroundFetchRegistration, index: int = 0) -> str:
    """The address of a body."""
    fetch = f"/api/v1/scopes/{SCOPE}/fetches/{registration.uid}"
    return f"{fetch}/records/{index}/response/body"


@pytest.fixture
async def fetched(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin
) -> BackgroundFetchRegistration:
    """A fetch of one file that has succeeded."""
    origin.add("/a%20b.mp3", BODY, headers={"Content-Type": "audio/mpeg"})
    registration = await manager.fetch("x", origin.url("/a%20b.mp3"))
    return await perform(engine, registration)


async def test_a_body_comes_whole_with_its_digest(
    gateway: AsyncClient, fetched: BackgroundFetchRegistration
) -> None:
    """R6, RFC 9530: its entity tag, too, is the digest of its bytes."""
    answer = await gateway.get(at(fetched))
    head = await gateway.head(at(fetched))

    assert answer.status_code == head.status_code == 200
    assert answer.content == BODY
    assert head.content == b""
    for name, value in {
        "content-length": str(len(BODY)),
        "content-type": "audio/mpeg",
        "etag": f'"{SHA256}"',
        "accept-ranges": "bytes",
        "repr-digest": f"sha-256=:{base64.b64encode(bytes.fromhex(SHA256)).decode()}:",
    }.items():
        assert (answer.headers[name], head.headers[name]) == (value, value)


async def test_a_body_comes_in_part_if_it_is_still_the_same(
    gateway: AsyncClient, fetched: BackgroundFetchRegistration
) -> None:
    """RFC 9110 §§ 13, 14."""
    url, tag, part = at(fetched), f'"{SHA256}"', {"Range": "bytes=1048570-1048589"}

    some = await gateway.get(url, headers=part)
    same = await gateway.get(url, headers=part | {"If-Range": tag})
    other = await gateway.get(url, headers=part | {"If-Range": '"other"'})
    end = await gateway.get(url, headers={"Range": "bytes=-5"})
    several = await gateway.get(url, headers={"Range": "bytes=0-1,5-6"})
    beyond = await gateway.get(url, headers={"Range": f"bytes={len(BODY)}-"})
    known = await gateway.get(url, headers={"If-None-Match": f"W/{tag}"})
    head = await gateway.head(url, headers=part)

    assert (some.status_code, some.content) == (206, BODY[1048570:1048590])
    assert some.headers["content-range"] == f"bytes 1048570-1048589/{len(BODY)}"
    assert (same.status_code, same.content) == (206, some.content)
    assert (other.status_code, other.content) == (200, BODY)
    assert (end.status_code, end.content) == (206, BODY[-5:])
    assert (several.status_code, several.content) == (200, BODY)
    assert beyond.status_code == 416
    assert beyond.headers["content-range"] == f"bytes */{len(BODY)}"
    assert beyond.headers["content-type"] == "application/problem+json"
    assert (known.status_code, known.content) == (304, b"")
    assert (head.status_code, head.headers["content-length"]) == (206, "20")


async def test_what_strangers_sent_is_never_run(
    gateway: AsyncClient,
    manager: BackgroundFetchManager,
    engine: Engine,
    origin: Origin,
) -> None:
    """It is saved, or shown in a sandbox, under a name made of the URL alone."""
    odd = {"Content-Type": "text/html", "Content-Disposition": "inline"}
    origin.add('/x%22%0Aé".html', b"<script>alert(1)</script>", headers=odd)
    registration = await manager.fetch("x", origin.url('/x%22%0Aé".html'))
    await perform(engine, registration)

    saved = await gateway.get(at(registration))
    looked = await gateway.get(at(registration) + "?inline=true")

    for answer in (saved, looked):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("sandbox;")
    assert saved.headers["content-disposition"] == (
        "attachment; filename=\"x____.html\"; filename*=UTF-8''x__%C3%A9_.html"
    )
    assert looked.headers["content-disposition"].startswith("inline;")


async def test_a_coded_body_is_decoded_unless_it_is_asked_for_raw(
    gateway: AsyncClient,
    manager: BackgroundFetchManager,
    engine: Engine,
    origin: Origin,
) -> None:
    coded = gzip.compress(BODY)
    origin.add("/a", coded, headers={"Content-Encoding": "gzip"})
    origin.add("/b", BODY, headers={"Content-Encoding": "br"})
    registration = await manager.fetch("x", [origin.url("/a"), origin.url("/b")])
    await perform(engine, registration)

    plain = await gateway.get(at(registration), headers={"Range": "bytes=0-9"})
    raw = await gateway.get(at(registration) + "?raw=1", headers={"Range": "bytes=0-9"})
    unknown = await gateway.get(at(registration, 1))

    assert (plain.status_code, plain.content) == (200, BODY)
    assert plain.headers["accept-ranges"] == "none"
    assert (raw.status_code, raw.content) == (206, coded[:10])
    assert plain.headers["etag"] != raw.headers["etag"]
    assert (unknown.status_code, unknown.json()["type"]) == (
        424,
        "/problems/undecodable-body",
    )


async def test_a_body_is_read_while_it_arrives(
    gateway: AsyncClient,
    manager: BackgroundFetchManager,
    engine: Engine,
    origin: Origin,
) -> None:
    """BF-OBJ-02: its first bytes come before the origin has sent the last ones."""
    more = asyncio.Event()
    origin.add("/slow", BODY, hold=more, hold_after=1024**2)
    registration = await manager.fetch("x", origin.url("/slow"))
    working = asyncio.create_task(perform(engine, registration))
    received = b""

    async with gateway.stream("GET", at(registration), timeout=60) as answer:
        assert answer.headers["content-length"] == str(len(BODY))
        async for chunk in answer.aiter_bytes():
            received += chunk
            if len(received) >= 1000:
                more.set()

    assert received == BODY
    await working


async def test_a_body_that_cannot_go_on_is_cut_off(
    gateway: AsyncClient,
    manager: BackgroundFetchManager,
    engine: Engine,
    origin: Origin,
) -> None:
    """R13: a client never takes a part of a body for the whole."""
    origin.add("/slow", BODY, hold=asyncio.Event(), hold_after=1024**2)
    registration = await manager.fetch("x", origin.url("/slow"))
    working = asyncio.create_task(perform(engine, registration))

    async def read() -> None:
        async with gateway.stream("GET", at(registration), timeout=60) as answer:
            async for _ in answer.aiter_bytes():
                await registration.abort()

    with pytest.raises(RemoteProtocolError):
        await read()

    await working
    gone = await gateway.get(at(registration))
    assert (gone.status_code, gone.json()["name"]) == (410, "AbortError")


async def test_what_is_not_there_yet_is_told_so(
    gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    registration = await manager.fetch("x", "https://origin.example/a")

    early = await gateway.get(at(registration) + "?wait=0")

    assert (early.status_code, early.json()["type"]) == (409, "/problems/not-yet")
    assert early.headers["retry-after"] == "1"


async def test_the_body_of_a_request_can_be_read_back(
    gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    """BF-FETCH-14: stored before `fetch()` returned."""
    url = "https://origin.example/a"
    registration = await manager.fetch(
        "x",
        [Request(url, method="PUT", body=BODY), Request(url, method="PUT", body="é")],
    )
    records = f"/api/v1/scopes/{SCOPE}/fetches/{registration.uid}/records"

    large = await gateway.get(f"{records}/0/request/body")
    text = await gateway.get(f"{records}/1/request/body")

    assert (large.content, large.headers["content-length"]) == (BODY, str(len(BODY)))
    assert text.content == "é".encode()
    assert text.headers["content-type"] == "text/plain;charset=UTF-8"
