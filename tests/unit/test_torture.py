"""The torture's own judge: a judge that finds nothing proves nothing."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import pytest

from broker.keys import FetchKeys
from broker.records import RecordLook, RecordReader
from schemas.fetches import Result
from schemas.records import Checkpoint, RecordResult, RecordState, ResponseHead
from tests.torture.origins import Shelf
from tests.torture.plan import File, Proof, plan_round
from tests.torture.verdict import Judge
from workers.demo.origin import Origin

ONE, TWO = b"one" * 1000, b"two" * 1000
KEYS = FetchKeys("torture", "0" * 32)
NAME = "a" * 32


class _Reader:
    """Tells of one record what it was told."""

    def __init__(self, look: RecordLook) -> None:
        self._look = look

    async def look(self, keys: FetchKeys, index: int) -> RecordLook:
        return self._look


def looked(body: bytes, *, of: bytes | None = None, **changes: Any) -> RecordLook:
    tag = sha256(of or body).hexdigest()[:32]
    state = RecordState(
        head=ResponseHead(status=200, headers=(("ETag", f'"{tag}"'),)),
        checkpoint=Checkpoint(store="s", part=NAME, length=len(body)),
        digest=sha256(body).hexdigest(),
    )
    changed = replace(state, **changes)
    return RecordLook(Result.SUCCESS, RecordResult.SUCCESS, len(body), changed)


async def judge(look: RecordLook, stored: bytes | None, store: Path) -> list[str]:
    (store / "blobs").mkdir()
    if stored is not None:
        (store / "blobs" / NAME).write_bytes(stored)
    shelf = Shelf(Origin(), None, "/f", File(Proof.ETAG, (ONE, TWO), None, (), 0))
    shelf.show(1)
    judge = Judge(cast("RecordReader", _Reader(look)), store)
    found = await judge.violations(KEYS, [shelf])
    return [what.split(" ")[0].rstrip(":") for what in found]


@pytest.mark.parametrize("body", [ONE, TWO])
async def test_a_blob_of_either_version_is_right(body: bytes, tmp_path: Path) -> None:
    assert await judge(looked(body), body, tmp_path) == []


async def test_bytes_of_two_versions_are_found(tmp_path: Path) -> None:
    mixed = ONE[:1500] + TWO[1500:]

    assert await judge(looked(mixed, of=TWO), mixed, tmp_path) == ["mixed"]


async def test_a_head_of_another_version_is_found(tmp_path: Path) -> None:
    assert await judge(looked(ONE, of=TWO), ONE, tmp_path) == ["mixed"]


async def test_missing_bytes_are_found(tmp_path: Path) -> None:
    cut = ONE[:2999]

    assert await judge(looked(cut, of=ONE), cut, tmp_path) == ["truncated"]


async def test_a_missing_blob_is_found(tmp_path: Path) -> None:
    assert await judge(looked(ONE), None, tmp_path) == ["missing"]


async def test_a_digest_of_other_bytes_is_found(tmp_path: Path) -> None:
    look = looked(ONE, digest=sha256(TWO).hexdigest())

    assert await judge(look, ONE, tmp_path) == ["digest"]


async def test_a_length_that_redis_does_not_know_is_found(tmp_path: Path) -> None:
    assert await judge(looked(ONE), TWO + b"!", tmp_path) == [
        "length",
        "digest",
        "mixed",
    ]


def test_a_seed_repeats_every_choice() -> None:
    rounds = [plan_round(7, number, nginx=True) for number in range(5)]

    assert rounds == [plan_round(7, number, nginx=True) for number in range(5)]
    assert rounds != [plan_round(8, number, nginx=True) for number in range(5)]
