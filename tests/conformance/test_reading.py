"""§ Record objects: responses, and readers of their bodies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from broker import Request
from broker.keys import FetchKeys
from broker.policies import write_policy
from broker.records import RecordLook
from schemas.errors import Aborted, RecordFailed
from schemas.policies import ScopePolicy
from tests.conformance.stage import SECONDS, Stage, until_downloaded
from tests.integration.clock import SCOPE

BODY = bytes(range(256)) * 1024


async def test_a_reader_of_bytes_that_were_replaced_has_to_match_again(
    stage: Stage,
) -> None:
    """BF-OBJ-07, R8: a TypeError, and no byte of the other version."""
    hold, newer = asyncio.Event(), BODY[::-1]
    stage.origin.add("/a", BODY, cut_after=[200_000], hold=hold, hold_after=100_000)
    registration = await stage.fetch("/a")
    blocks: list[bytes] = []

    async with stage.performing(registration):
        await until_downloaded(registration)
        body = (await (await stage.record(registration, "/a")).response_ready).body
        blocks.append(await anext(body))
        stage.origin.replace("/a", newer)
        hold.set()
        reading = asyncio.create_task(_gather(body, blocks))
        with pytest.raises(TypeError, match="changed while it was read"):
            await reading

    assert BODY.startswith(b"".join(blocks))
    assert await stage.read(registration, "/a") == newer


async def _gather(body: AsyncIterator[bytes], blocks: list[bytes]) -> None:
    async for block in body:
        blocks.append(block)


async def test_a_response_that_may_not_be_shown_is_an_error_of_its_reason(
    stage: Stage,
) -> None:
    """BF-OBJ-08, BF-OBJ-09, BF-STATE-06: fetch-error, quota, total and abort."""
    stage.origin.add("/a", BODY)
    stage.origin.add("/from", b"", status=302, headers={"Location": "/a"})
    refused = Request(stage.origin.url("/from"), redirect="error")

    error = await stage.perform(await stage.manager.fetch("error", refused))
    total = await stage.perform(await stage.fetch("/a", id="total", download_total=9))
    aborted = await stage.fetch("/a", id="aborted")
    await aborted.abort()
    await write_policy(stage.manager.connection, SCOPE, ScopePolicy(max_bytes=9))
    quota = await stage.perform(await stage.fetch("/a", id="quota"))

    reasons = {
        error: "fetch-error",
        total: "download-total-exceeded",
        quota: "quota-exceeded",
    }
    for registration, reason in reasons.items():
        [record] = await registration.match_all()
        with pytest.raises(RecordFailed, match=reason) as failed:
            await record.response_ready
        assert failed.value.spec_name == "TypeError"
        assert registration.failure_reason == reason
    [record] = await aborted.match_all()
    async with asyncio.timeout(SECONDS):
        with pytest.raises(Aborted) as ended:
            await record.response_ready
    assert ended.value.spec_name == "AbortError"


async def test_a_body_that_fails_on_its_way_raises_at_its_reader(stage: Stage) -> None:
    """BF-OBJ-06, BF-REC-21: a TypeError, once what had come was given."""
    hold = asyncio.Event()
    stage.origin.add("/a", BODY, cut_after=[200_000], hold=hold, hold_after=100_000)
    post = Request(stage.origin.url("/a"), method="POST", body=b"1")
    registration = await stage.manager.fetch("x", post)
    blocks: list[bytes] = []

    async with stage.performing(registration):
        await until_downloaded(registration)
        record = await stage.record(registration, "/a")
        reading = asyncio.create_task(
            _gather((await record.response_ready).body, blocks)
        )
        hold.set()
        with pytest.raises(RecordFailed, match="fetch-error"):
            await reading

    assert BODY.startswith(b"".join(blocks))
    with pytest.raises(TypeError):
        await record.response_ready


async def test_a_reader_that_comes_late_gets_every_byte_from_the_first(
    stage: Stage,
) -> None:
    """BF-OBJ-02, BF-OBJ-04, BF-OBJ-05: and its end only when all are there."""
    hold = asyncio.Event()
    stage.origin.add("/a", BODY, hold=hold, hold_after=200_000)
    registration = await stage.fetch("/a")

    async with stage.performing(registration):
        await until_downloaded(registration, 200_000)
        body = (await (await stage.record(registration, "/a")).response_ready).body
        got = b""
        while len(got) < 200_000:
            got += await anext(body)
        early = registration.result
        hold.set()
        async for block in body:
            got += block
        ended = (await registration.match_all())[0]
        assert (await ended.refresh()).result == "success"

    assert early == ""
    assert got == BODY


async def test_a_reader_whose_bytes_go_as_it_opens_them_hears_why(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BF-OBJ-06: the record fails between its look and its opening of the file."""
    hold = asyncio.Event()
    stage.origin.add("/a", BODY, cut_after=[200_000], hold=hold, hold_after=100_000)
    post = Request(stage.origin.url("/a"), method="POST")
    registration = await stage.manager.fetch("x", post)
    reader, keys = stage.manager.reader, FetchKeys(SCOPE, registration.uid)
    look = reader.look
    async with stage.performing(registration):
        await until_downloaded(registration)
        record = await stage.record(registration, "/a")
        body = (await record.response_ready).body
        before = [await look(keys, 0)]
        hold.set()

    async def outdated(*args: Any, **options: Any) -> RecordLook:
        return before.pop() if before else await look(*args, **options)

    monkeypatch.setattr(reader, "look", outdated)

    with pytest.raises(RecordFailed, match="fetch-error"):
        await anext(body)
    assert before == []
