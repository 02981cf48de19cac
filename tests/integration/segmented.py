"""Fetching one large file in segments, and what must be true of it in the end."""

from __future__ import annotations

import hashlib
import random

from broker.keys import FetchKeys
from broker.manager import BackgroundFetchManager
from broker.records import RecordLook
from broker.registration import BackgroundFetchRegistration
from schemas.fetches import Result
from tests.integration.clock import SCOPE

KiB = 1024
BODY = random.Random(1).randbytes(2048 * KiB + 7)
OTHER = random.Random(2).randbytes(len(BODY))
SEGMENTS = {"segments": 4, "segment_size": 32 * KiB}


async def look_at(
    manager: BackgroundFetchManager, registration: BackgroundFetchRegistration
) -> RecordLook:
    """What Redis knows of the only record."""
    return await manager.reader.look(FetchKeys(SCOPE, registration.uid), 0)


async def assert_whole(
    manager: BackgroundFetchManager,
    registration: BackgroundFetchRegistration,
    body: bytes,
    restarts: int = 0,
) -> None:
    """The bytes, the counts and the digest are those of one version (R6, R18)."""
    assert registration.result is Result.SUCCESS
    [record] = await registration.match_all()
    assert await (await record.response_ready).read() == body
    assert registration.downloaded == len(body)
    look = await look_at(manager, registration)
    assert look.state.digest == hashlib.sha256(body).hexdigest()
    assert look.state.restarts == restarts
