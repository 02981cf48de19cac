"""What origins may answer to the request for a segment: one version, or all anew."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from broker.manager import BackgroundFetchManager
from broker.settings import Settings
from tests.integration.quirks import Quirky, Reply, tag_of
from tests.integration.segmented import (
    BODY,
    OTHER,
    SEGMENTS,
    KiB,
    assert_whole,
)
from tests.integration.working import perform
from workers.engine import Engine


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update=SEGMENTS)


def _ignore(reply: Reply) -> None:
    reply.status, reply.body = 200, BODY
    reply.headers["Content-Range"] = None


def _other_tag(reply: Reply) -> None:
    reply.headers["ETag"] = tag_of(OTHER)


def _other_version(reply: Reply) -> None:
    _ignore(reply)
    _other_tag(reply)


def _no_tag(reply: Reply) -> None:
    reply.headers["ETag"] = None


def _other_start(reply: Reply) -> None:
    last = reply.first + len(reply.body) - 2
    reply.headers["Content-Range"] = f"bytes {reply.first - 1}-{last}/{len(BODY)}"


def _other_total(reply: Reply) -> None:
    last = reply.first + len(reply.body) - 1
    reply.headers["Content-Range"] = f"bytes {reply.first}-{last}/{len(BODY) + 1}"


def _no_range(reply: Reply) -> None:
    reply.headers["Content-Range"] = None


def _multipart(reply: Reply) -> None:
    reply.headers["Content-Type"] = "multipart/byteranges; boundary=x"


def _coded(reply: Reply) -> None:
    reply.headers["Content-Encoding"] = "gzip"


def _unsatisfied(reply: Reply) -> None:
    reply.status, reply.body = 416, b""
    reply.headers["Content-Range"] = f"bytes */{len(BODY)}"


def _gone(reply: Reply) -> None:
    reply.status, reply.body = 404, b"gone"


def _refused(reply: Reply) -> None:
    reply.status, reply.body = 500, b""


def _redirect(reply: Reply) -> None:
    reply.status, reply.body = 302, b""
    reply.headers["Location"] = "/elsewhere"


def _cut(reply: Reply) -> None:
    reply.cut = 16 * KiB


def _less(reply: Reply) -> None:
    reply.body = reply.body[: len(reply.body) // 2]
    last = reply.first + len(reply.body) - 1
    reply.headers["Content-Range"] = f"bytes {reply.first}-{last}/{len(BODY)}"


def _more(reply: Reply) -> None:
    reply.body = BODY[reply.first :]
    reply.headers["Content-Range"] = f"bytes {reply.first}-{len(BODY) - 1}/{len(BODY)}"


DISAGREE = [_other_tag, _other_version, _no_tag, _other_start, _other_total]
DISAGREE += [_no_range, _multipart, _coded, _unsatisfied]
FAIL = [_ignore, _gone, _refused, _redirect, _cut, _less, _more]


@pytest.mark.parametrize("quirk", [*DISAGREE, *FAIL])
async def test_before_a_206_has_proved_a_range_nothing_depends_on_one(
    manager: BackgroundFetchManager, engine: Engine, quirk: Callable[[Reply], None]
) -> None:
    """R7, faults 49-54: the main stream goes on."""

    def change(reply: Reply) -> None:
        if reply.number == 1:
            quirk(reply)

    async with Quirky(BODY, change, waits_for=1) as origin:
        await perform(engine, registration := await manager.fetch("x", origin.url))

        await assert_whole(manager, registration, BODY)
        assert origin.plain == 1


@pytest.mark.parametrize("quirk", DISAGREE)
async def test_one_disagreement_among_segments_restarts_the_record(
    manager: BackgroundFetchManager, engine: Engine, quirk: Callable[[Reply], None]
) -> None:
    """R3, R7, faults 50, 51, 53: then it comes in one stream."""

    def change(reply: Reply) -> None:
        if reply.number == 3:
            quirk(reply)

    async with Quirky(BODY, change) as origin:
        await perform(engine, registration := await manager.fetch("x", origin.url))

        await assert_whole(manager, registration, BODY, restarts=1)
        assert origin.plain == 2


@pytest.mark.parametrize("quirk", FAIL)
async def test_a_segment_that_cannot_be_had_is_left_to_the_others(
    manager: BackgroundFetchManager, engine: Engine, quirk: Callable[[Reply], None]
) -> None:
    """Faults 49: also from an origin that ignores the range of one of them."""

    def change(reply: Reply) -> None:
        if reply.number == 3:
            quirk(reply)

    async with Quirky(BODY, change) as origin:
        await perform(engine, registration := await manager.fetch("x", origin.url))

        await assert_whole(manager, registration, BODY)
        assert origin.plain == 1


async def test_an_origin_whose_every_answer_has_another_tag_is_no_endless_restart(
    manager: BackgroundFetchManager, engine: Engine
) -> None:
    """Faults 53."""

    def change(reply: Reply) -> None:
        reply.headers["ETag"] = f'"{random.random()}"'

    async with Quirky(BODY, change, waits_for=1) as origin:
        await perform(engine, registration := await manager.fetch("x", origin.url))

        await assert_whole(manager, registration, BODY)


async def test_a_file_that_is_replaced_between_segments_is_fetched_anew(
    manager: BackgroundFetchManager, engine: Engine
) -> None:
    """Faults 55: every answer is of one version, the segments are of two."""
    async with Quirky(BODY) as origin:

        def change(reply: Reply) -> None:
            if reply.number == 4:
                origin.body = OTHER

        origin.quirk = change
        await perform(engine, registration := await manager.fetch("x", origin.url))

        await assert_whole(manager, registration, OTHER, restarts=1)


def _weak(reply: Reply) -> None:
    reply.headers["ETag"] = "W/" + tag_of(BODY)


@pytest.mark.parametrize("quirk", [_weak, _no_tag])
async def test_without_a_proof_there_are_no_segments(
    manager: BackgroundFetchManager, engine: Engine, quirk: Callable[[Reply], None]
) -> None:
    """R7, faults 52."""
    async with Quirky(BODY, quirk, waits_for=0) as origin:
        await perform(engine, registration := await manager.fetch("x", origin.url))

        await assert_whole(manager, registration, BODY)
        assert not origin.ranges
