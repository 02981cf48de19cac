"""Coded answers are stored as sent, and decoded when they are read."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import random
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broker.keys import FetchKeys
from broker.manager import BackgroundFetchManager
from broker.response import Response
from schemas.errors import UndecodableBody
from schemas.requests import Request
from tests.integration.clock import SCOPE
from tests.integration.wire import resident_bytes
from workers.demo.origin import Origin
from workers.engine import Engine

BODY = random.Random(1).randbytes(300_000) + bytes(100_000)
CODED = gzip.compress(BODY)
GZIP = {"Content-Encoding": "gzip"}


@pytest.fixture
async def engine(manager: BackgroundFetchManager) -> AsyncIterator[Engine]:
    engine = Engine(manager.settings, reclaiming=False)
    await engine.start()
    yield engine
    await engine.aclose()


async def fetched(
    manager: BackgroundFetchManager, engine: Engine, request: str | Request
) -> Response:
    registration = await manager.fetch("x", request)
    async with asyncio.timeout(30):
        await engine.perform(SCOPE, registration.uid, "job")
    [record] = await registration.match_all()
    assert (await record.refresh()).result == "success"
    return await record.response_ready


async def test_a_coded_body_is_decoded_by_every_way_to_read_it_but_raw(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin, tmp_path: Path
) -> None:
    """Stored as sent: the record's count and digest are of the coded bytes (R6)."""
    origin.add("/a", CODED, headers=GZIP)
    response = await fetched(manager, engine, origin.url("/a"))

    await response.save(tmp_path / "decoded")
    await response.raw.save(tmp_path / "raw")

    assert (tmp_path / "decoded").read_bytes() == BODY
    assert (tmp_path / "raw").read_bytes() == CODED
    assert await response.read() == BODY
    assert b"".join([block async for block in response.raw.body]) == CODED
    assert response.headers["Content-Encoding"] == "gzip"
    registration = (await manager.history())[0]
    look = await manager.reader.look(FetchKeys(SCOPE, registration.uid), 0)
    assert look.stored == len(CODED)
    assert look.state.digest == hashlib.sha256(CODED).hexdigest()


async def test_text_and_json_are_read_from_the_decoded_body(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin
) -> None:
    value = {"words": ["é"] * 3}
    coded = zlib.compress(json.dumps(value).encode())
    origin.add("/a", coded, headers={"Content-Encoding": "deflate"})

    response = await fetched(manager, engine, origin.url("/a"))

    assert await response.json() == value
    assert json.loads(await response.text()) == value


async def test_a_coded_body_is_decoded_while_it_arrives(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin
) -> None:
    """BF-OBJ-02, BF-OBJ-04: the first bytes are there before the last are sent."""
    hold = asyncio.Event()
    origin.add("/a", CODED, headers=GZIP, hold=hold)
    registration = await manager.fetch("x", origin.url("/a"))
    working = asyncio.create_task(engine.perform(SCOPE, registration.uid, "job"))
    [record] = await registration.match_all()
    async with asyncio.timeout(30):
        body = (await record.response_ready).body
        found = await anext(body)
        assert BODY.startswith(found)
        hold.set()

        rest = [block async for block in body]
        await working

    assert found + b"".join(rest) == BODY


async def test_a_coded_body_whose_transfer_broke_is_resumed_and_decodes_whole(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin
) -> None:
    """BF-RANGE-13: identity is asked for, and a strong ETag proves the coded bytes."""
    origin.add("/a", CODED, headers=GZIP, cut_after=[100_000])

    response = await fetched(manager, engine, origin.url("/a"))

    assert await response.read() == BODY
    assert len(origin.log) == 2
    asked = {seen.headers["accept-encoding"] for seen in origin.log}
    assert asked == {"identity"}


@pytest.mark.parametrize(
    ("coding", "coded", "message"),
    [
        ("gzip", CODED[:-1], "ends before its gzip does"),
        ("gzip, gzip", CODED, "has 2 content codings"),
        ("br", CODED, "unknown content coding 'br'"),
        ("gzip", BODY, "is not gzip"),
    ],
    ids=["truncated", "two codings", "unknown", "not coded"],
)
async def test_a_body_that_cannot_be_decoded_is_an_error_and_saves_no_file(
    manager: BackgroundFetchManager,
    engine: Engine,
    origin: Origin,
    tmp_path: Path,
    coding: str,
    coded: bytes,
    message: str,
) -> None:
    """Faults row 46 and § 3: never silently short. As sent, it can be had."""
    origin.add("/a", coded, headers={"Content-Encoding": coding})
    response = await fetched(manager, engine, origin.url("/a"))
    folder = tmp_path / "out"
    folder.mkdir()

    with pytest.raises(UndecodableBody, match=message):
        await response.read()
    with pytest.raises(UndecodableBody, match=message):
        await response.save(folder / "a")

    assert list(folder.iterdir()) == []
    assert await response.raw.read() == coded


async def test_a_bomb_is_an_error_within_bounded_memory(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin
) -> None:
    """Faults row 46: 1:1000."""
    coder = zlib.compressobj(wbits=31)
    zeros = bytes(1024 * 1024)
    bomb = b"".join([coder.compress(zeros) for _ in range(512)]) + coder.flush()
    origin.add("/a", bomb, headers=GZIP)
    response = await fetched(manager, engine, origin.url("/a"))
    before = resident_bytes()

    with pytest.raises(UndecodableBody, match="BGFETCH_MAX_DECODED_RATIO=200"):
        async for _ in response.body:
            pass

    assert resident_bytes() - before < 64 * 1024 * 1024


async def test_an_answer_to_head_has_no_body_to_decode(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin
) -> None:
    origin.add("/a", CODED, headers=GZIP)

    response = await fetched(manager, engine, Request(origin.url("/a"), method="HEAD"))

    assert await response.read() == b""
