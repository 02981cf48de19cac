"""Several workers on one store, and a store that refuses: who does what, and why."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from datetime import timedelta
from typing import Any

import pytest

from broker.agenda import Agenda
from broker.blobs import Durability
from broker.keys import FetchKeys, ScopeKeys
from broker.manager import BackgroundFetchManager
from broker.settings import Settings
from tests.integration.clock import SCOPE, Clock
from workers.demo.origin import Origin
from workers.engine import Engine

BODY = bytes(range(256)) * 2000
MOMENT = timedelta(milliseconds=20)


async def started(settings: Settings) -> Engine:
    engine = Engine(settings, reclaiming=False)
    await engine.start()
    return engine


@pytest.mark.parametrize("changed", [False, True])
async def test_two_workers_on_one_file_are_told_apart_by_redis_alone(
    manager: BackgroundFetchManager,
    settings: Settings,
    origin: Origin,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    changed: bool,
) -> None:
    """Faults row 73, R2, R3: no lock of the file system is asked, as on an old NFS.

    The first worker only seems dead, and writes on while its successor does: the same
    bytes to the same part, or, where the file has changed, to the part of the version
    that its own answer proved.
    """

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    for name in ("flock", "lockf"):
        monkeypatch.setattr(fcntl, name, no_locks)
    quick = settings.model_copy(
        update={"progress_interval": MOMENT, "checkpoint_interval": MOMENT}
    )
    hold = asyncio.Event()
    origin.add("/a", BODY, hold=hold)
    registration = await manager.fetch("x", origin.url("/a"))
    keys = FetchKeys(SCOPE, registration.uid)
    zombie, successor = await started(quick), await started(quick)
    async with asyncio.timeout(60):
        first = asyncio.create_task(zombie.perform(SCOPE, keys.uid, "job-1"))
        while not await checkpointed(manager, keys):  # noqa: ASYNC110
            await asyncio.sleep(0.02)

        await clock.age_lanes(keys, settings.lease * 3)
        await Agenda(manager.connection, settings).look(keys)
        if changed:
            origin.replace("/a", BODY[::-1])
        second = asyncio.create_task(successor.perform(SCOPE, keys.uid, "job-2"))
        while len(origin.log) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        hold.set()
        await asyncio.gather(first, second)
    await asyncio.gather(zombie.aclose(), successor.aclose())

    [record] = await registration.match_all()
    assert (await record.refresh()).result == "success"
    body = await (await record.response_ready).read()
    assert body == (BODY[::-1] if changed else BODY)
    assert await manager.connection.ask("XLEN", ScopeKeys(SCOPE).events) == 1
    assert len(list((settings.store_directory / "blobs").iterdir())) == 1


async def checkpointed(manager: BackgroundFetchManager, keys: FetchKeys) -> int:
    """How many bytes of the first record a successor need not download."""
    checkpoint = (await manager.reader.look(keys, 0)).state.checkpoint
    return checkpoint.length if checkpoint else 0


async def test_fetches_of_one_url_have_bytes_of_their_own(
    manager: BackgroundFetchManager, settings: Settings, origin: Origin, clock: Clock
) -> None:
    """Faults row 74, R16: there is nothing to count, since nothing is shared.

    Design § 8: no de-duplication across fetches.
    """
    origin.add("/a", BODY[:4096])
    fetches = [await manager.fetch(f"x{n}", origin.url("/a")) for n in range(100)]
    engine = await started(settings)
    async with asyncio.timeout(60):
        for fetch in fetches:
            await engine.perform(SCOPE, fetch.uid, "job")
    blobs = settings.store_directory / "blobs"
    stored = len(list(blobs.iterdir()))

    for fetch in fetches[1:]:
        keys = FetchKeys(SCOPE, fetch.uid)
        await clock.age_settlement(keys, settings.retention)
        await engine.reclaimer.look(keys)  # released
        await clock.age_settlement(keys, settings.release_grace)
        await engine.reclaimer.look(keys)  # bytes deleted
    await engine.aclose()

    assert stored == 100
    assert len(list(blobs.iterdir())) == 1
    [record] = await fetches[0].match_all()
    assert await (await record.response_ready).read() == BODY[:4096]


@pytest.mark.parametrize(
    ("call", "code", "result"),
    [
        ("pwritev", errno.ENOSPC, "quota-exceeded"),
        ("pwritev", errno.EDQUOT, "quota-exceeded"),
        ("fdatasync", errno.EIO, "fetch-error"),
        ("rename", errno.EIO, "fetch-error"),
        ("open", errno.EROFS, "fetch-error"),
        ("open", errno.EMFILE, "fetch-error"),
    ],
)
async def test_a_disk_that_refuses_one_file_fails_that_record_and_no_other(
    manager: BackgroundFetchManager,
    settings: Settings,
    origin: Origin,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    code: int,
    result: str,
) -> None:
    """Faults row 70: the reason is told, and no half blob is to be seen."""
    paths = ["/a", "/b", "/c"]
    for path in paths:
        origin.add(path, BODY[:4096])
    registration = await manager.fetch("x", [origin.url(path) for path in paths])
    engine = await started(settings.model_copy(update={"durability": Durability.FULL}))
    real, refusals = getattr(os, call), iter([OSError(code, os.strerror(code))])

    def refusing(*arguments: Any, **options: Any) -> Any:
        about_part = call != "open" or arguments[1] & os.O_CREAT
        if about_part and (refusal := next(refusals, None)):
            raise refusal
        return real(*arguments, **options)

    monkeypatch.setattr(os, call, refusing)
    async with asyncio.timeout(60):
        await engine.perform(SCOPE, registration.uid, "job")
    await engine.aclose()

    records = [await record.refresh() for record in await registration.match_all()]
    [failed] = [record for record in records if record.result != "success"]
    assert failed.result == result
    assert errno.errorcode[code] in failed.failure_reason
    for record in records:
        if record is not failed:
            assert await (await record.response_ready).read() == BODY[:4096]
    assert len(list((settings.store_directory / "blobs").iterdir())) == 2
    assert not list((settings.store_directory / "parts").iterdir())
