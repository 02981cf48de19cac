"""Large files in several streams at once: whole, in order for readers, and resumed."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise

import pytest

from broker.agenda import Agenda
from broker.keys import FetchKeys
from broker.manager import BackgroundFetchManager
from broker.settings import Settings
from schemas.errors import Aborted
from schemas.fetches import FailureReason, Result
from schemas.requests import Request
from tests.integration.clock import SCOPE, Clock
from tests.integration.quirks import Quirky, Reply
from tests.integration.segmented import (
    BODY,
    OTHER,
    SEGMENTS,
    KiB,
    assert_whole,
    look_at,
)
from tests.integration.working import perform
from workers.engine import Engine


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update=SEGMENTS)


async def until(condition: Callable[[], bool]) -> None:
    """Return when a condition holds that nothing announces, within a deadline."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_large_file_comes_in_segments_and_no_byte_twice(
    manager: BackgroundFetchManager, engine: Engine
) -> None:
    """R3, R6, R7, R18."""
    async with Quirky(BODY) as origin:
        registration = await manager.fetch("x", origin.url, download_total=len(BODY))

        await perform(engine, registration)

        await assert_whole(manager, registration, BODY)
        assert origin.plain == 1
        spans = sorted(origin.ranges)
        assert all(a[1] <= b[0] for a, b in pairwise(spans))
        assert spans[-1][1] == len(BODY)
        assert 1 < origin.most <= 4
        assert (await look_at(manager, registration)).state.attempts == 1


async def test_segments_are_off_unless_they_are_asked_for(
    manager: BackgroundFetchManager, settings: Settings
) -> None:
    engine = Engine(settings.model_copy(update={"segments": 1}), reclaiming=False)
    await engine.start()
    async with Quirky(BODY, waits_for=0) as origin:
        await perform(engine, registration := await manager.fetch("x", origin.url))
        await engine.aclose()

        await assert_whole(manager, registration, BODY)
        assert not origin.ranges


async def test_every_stream_may_be_cut_and_nothing_is_counted_twice(
    manager: BackgroundFetchManager, engine: Engine
) -> None:
    """R18: the record goes back to the pool, and its lane keeps what is ahead."""
    choose = random.Random(3)

    def change(reply: Reply) -> None:
        reply.gate = None
        if choose.random() < 0.7:
            reply.cut = choose.randrange(0, 96, 8) * KiB

    async with Quirky(BODY, change) as origin:
        registration = await manager.fetch("x", origin.url, download_total=len(BODY))

        await perform(engine, registration)

        await assert_whole(manager, registration, BODY)


async def test_more_bytes_than_the_download_total_end_the_fetch(
    manager: BackgroundFetchManager, engine: Engine
) -> None:
    """BF-REC-15, R18: what is ahead counts, and one byte decides."""
    async with Quirky(BODY) as origin:
        registration = await manager.fetch(
            "x", origin.url, download_total=len(BODY) - 1
        )

        await perform(engine, registration)

        assert registration.failure_reason is FailureReason.DOWNLOAD_TOTAL_EXCEEDED
        assert registration.downloaded == 0


async def test_readers_get_what_has_no_gap_before_it_and_progress_never_falls(
    manager: BackgroundFetchManager, engine: Engine, settings: Settings
) -> None:
    """R8: all but the start is stored, and nobody can read it."""
    gate = asyncio.Event()

    def hold(reply: Reply) -> None:
        if reply.number == 0:
            reply.gate, reply.gate_after = gate, 64 * KiB

    async with Quirky(BODY, hold, waits_for=0) as origin:
        registration = await manager.fetch("x", origin.url)
        seen: list[int] = []
        registration.add_event_listener(
            "progress", lambda event: seen.append(registration.downloaded)
        )
        working = asyncio.create_task(perform(engine, registration))
        await until(origin.asked_to_the_end)
        record = await registration.match(origin.url)
        assert record is not None
        response = await record.response_ready
        [part] = (settings.store_directory / "parts").iterdir()
        await until(lambda: part.stat().st_size == len(BODY))
        await registration.refresh()
        body = response.body
        early = b""
        while len(early) < 64 * KiB:
            early += await anext(body)
        while_held = (await look_at(manager, registration)).stored

        gate.set()
        late = b"".join([block async for block in body])
        await working

        assert while_held == 64 * KiB == len(early)
        assert early + late == BODY
        assert seen == sorted(seen)
        await assert_whole(manager, registration, BODY)


async def test_a_successor_goes_on_from_the_bytes_without_a_gap(
    manager: BackgroundFetchManager, settings: Settings, clock: Clock
) -> None:
    """Guarantee 7, R4, R5: what was stored beyond them is downloaded again."""
    often = timedelta(milliseconds=20)
    changed = settings.model_copy(update={"checkpoint_interval": often})
    first, second = (Engine(changed, reclaiming=False) for _ in range(2))
    never, more = asyncio.Event(), asyncio.Event()
    resumed: list[int] = []

    def hold(reply: Reply) -> None:
        if reply.number == 0:
            reply.gate, reply.gate_after = never, 96 * KiB
        elif reply.first == 96 * KiB:
            resumed.append(reply.number)
            reply.gate = more
        elif resumed:
            more.set()

    async def checkpoint() -> int:
        state = (await look_at(manager, registration)).state
        return state.checkpoint.length if state.checkpoint else 0

    async with Quirky(BODY, hold, waits_for=0) as origin:
        registration = await manager.fetch("x", origin.url)
        keys = FetchKeys(SCOPE, registration.uid)
        await first.start()
        killed = asyncio.create_task(first.perform(SCOPE, registration.uid, "job"))
        await until(origin.asked_to_the_end)
        async with asyncio.timeout(30):
            while await checkpoint() < 96 * KiB:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        killed.cancel()
        await asyncio.gather(killed, return_exceptions=True)
        await first.aclose()
        await clock.age_lanes(keys, changed.lease * 2)
        await Agenda(manager.connection, changed).look(keys)
        await second.start()
        await perform(second, registration)
        await second.aclose()

        await assert_whole(manager, registration, BODY)
        assert origin.plain == 1
        assert origin.ranges[resumed[0] - 1] == (96 * KiB, len(BODY))
        assert more.is_set()


async def test_an_abort_ends_all_streams_at_once(
    manager: BackgroundFetchManager, engine: Engine
) -> None:
    """BF-ABORT-06: none of them would ever end."""
    never = asyncio.Event()

    def hold(reply: Reply) -> None:
        reply.gate, reply.gate_after = never, 16 * KiB

    async with Quirky(BODY, hold) as origin:
        registration = await manager.fetch("x", origin.url)
        working = asyncio.create_task(perform(engine, registration))
        await until(lambda: len(origin.ranges) >= 3)

        assert await registration.abort()
        async with asyncio.timeout(20):
            await working

        [record] = await registration.match_all()
        with pytest.raises(Aborted):
            await record.response_ready


@pytest.mark.parametrize(("algorithm", "right"), [("sha384", True), ("sha384", False)])
async def test_integrity_holds_for_the_whole_file(
    manager: BackgroundFetchManager, engine: Engine, algorithm: str, right: bool
) -> None:
    """R6: a digest that was not computed on the way is read back."""
    digest = hashlib.new(algorithm, BODY if right else OTHER).digest()
    integrity = f"{algorithm}-{base64.b64encode(digest).decode()}"
    async with Quirky(BODY) as origin:
        request = Request(origin.url, integrity=integrity)
        await perform(engine, registration := await manager.fetch("x", request))

        assert len(origin.ranges) >= 3
        assert (registration.result is Result.SUCCESS) is right


@pytest.mark.parametrize("limit", [1, 2])
async def test_the_limit_of_the_origin_holds_for_segments_too(
    manager: BackgroundFetchManager, settings: Settings, limit: int
) -> None:
    """R25: each has a slot, and none is waited for."""
    changed = settings.model_copy(update={"origin_connections": limit})
    engine = Engine(changed, reclaiming=False)
    await engine.start()
    async with Quirky(BODY, waits_for=limit - 1) as origin:
        await perform(engine, registration := await manager.fetch("x", origin.url))
        await engine.aclose()

        await assert_whole(manager, registration, BODY)
        assert origin.most == limit
        assert bool(origin.ranges) is (limit > 1)


async def test_what_a_range_of_the_callers_own_brings_has_no_segments(
    manager: BackgroundFetchManager, engine: Engine
) -> None:
    """BF-RANGE-18."""
    async with Quirky(BODY, waits_for=0) as origin:
        wanted = Request(origin.url, headers={"Range": "bytes=7-"})
        posted = Request(origin.url, method="POST")
        await perform(engine, await manager.fetch("x", [wanted, posted]))

        assert origin.ranges == [(7, len(BODY))]
