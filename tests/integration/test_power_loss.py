"""A power cut takes what was not forced to the medium: nothing may count on it."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from broker.agenda import Agenda
from broker.blobs import Durability
from broker.connection import Connection
from broker.keys import FetchKeys
from broker.manager import BackgroundFetchManager
from broker.scripts import Argument
from broker.settings import Settings
from schemas.records import RecordResult
from tests.integration.clock import SCOPE, Clock
from workers.demo.origin import Origin
from workers.engine import Engine

BODY = bytes(range(256)) * 3000
HALF = len(BODY) // 2
pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="asks /proc what a descriptor is of"
)


@dataclass
class Medium:
    """What outlives a power cut, as POSIX promises it: what was synced, by name.

    Names are never used again (R3), so that bytes are found under them wherever the
    file was when it was synced.
    """

    content: dict[str, bytes] = field(default_factory=dict)
    names: dict[str, frozenset[str]] = field(default_factory=dict)

    def copy(self) -> Medium:
        """What it has now."""
        return Medium(dict(self.content), dict(self.names))

    def sync(self, fd: int) -> None:
        """Take in what one descriptor is of."""
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            self.names[path.name] = frozenset(os.listdir(path))
        else:
            self.content[path.name] = path.read_bytes()


@pytest.fixture
def medium(monkeypatch: pytest.MonkeyPatch) -> Medium:
    """What this process's syncs bring to the medium."""
    found = Medium()
    for name in ("fsync", "fdatasync"):
        real = getattr(os, name)

        def sync(fd: int, real: Any = real) -> None:
            found.sync(fd)  # what is written from here on may be lost
            real(fd)

        monkeypatch.setattr(os, name, sync)
    return found


@pytest.fixture
def settings(settings: Settings) -> Settings:
    moment = timedelta(milliseconds=20)
    return settings.model_copy(
        update={
            "durability": Durability.FULL,
            "progress_interval": moment,
            "checkpoint_interval": moment,
        }
    )


async def test_redis_never_counts_on_bytes_that_a_power_cut_would_take(
    manager: BackgroundFetchManager,
    settings: Settings,
    origin: Origin,
    medium: Medium,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Faults row 71, R5: each report is judged by what was synced before it was sent.

    A checkpoint's bytes are there; a success has its name among the blobs as well.
    """
    for path in ("/a", "/b", "/c"):
        origin.add(path, BODY, rate=6_000_000, cut_after=[HALF])
    registration = await manager.fetch("x", [origin.url(p) for p in ("/a", "/b", "/c")])
    keys = FetchKeys(SCOPE, registration.uid)
    found = {"checkpoints": 0, "successes": 0}
    run = Connection.run

    async def judged(
        connection: Connection,
        name: str,
        script_keys: Sequence[str],
        arguments: Sequence[Argument] = (),
    ) -> Any:
        before = medium.copy()
        reply = await run(connection, name, script_keys, arguments)
        if name == "report":
            await judge(before)
        return reply

    async def judge(before: Medium) -> None:
        for index in range(3):
            look = await manager.reader.look(keys, index)
            checkpoint = look.state.checkpoint
            if checkpoint is None or not checkpoint.length:
                continue
            found["checkpoints"] += 1
            safe = before.content.get(checkpoint.part, b"")
            assert safe[: checkpoint.length] == BODY[: checkpoint.length]
            if look.result is RecordResult.SUCCESS:
                found["successes"] += 1
                assert safe == BODY
                assert checkpoint.part in before.names["blobs"]

    monkeypatch.setattr(Connection, "run", judged)
    engine = Engine(settings, reclaiming=False)
    await engine.start()
    async with asyncio.timeout(60):
        await engine.perform(SCOPE, registration.uid, "job")
    await engine.aclose()
    await registration.refresh()

    assert registration.result == "success"
    assert found["successes"] > 0
    assert found["checkpoints"] > found["successes"]


@pytest.mark.parametrize("journal", [True, False])
async def test_after_a_power_cut_a_download_goes_on_from_what_was_synced(
    manager: BackgroundFetchManager,
    settings: Settings,
    origin: Origin,
    medium: Medium,
    clock: Clock,
    journal: bool,
) -> None:
    """Faults row 71, R3 to R5: the store is the copy as of the last syncs.

    Where a file's sync does not bring its new name along, as POSIX allows, the file is
    gone, and the record begins again.
    """
    hold = asyncio.Event()
    origin.add("/a", BODY, hold=hold)
    registration = await manager.fetch("x", origin.url("/a"))
    keys = FetchKeys(SCOPE, registration.uid)
    engine = Engine(settings, reclaiming=False)
    await engine.start()
    working = asyncio.create_task(engine.perform(SCOPE, registration.uid, "job"))
    async with asyncio.timeout(60):
        while not await synced(manager, keys):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    await engine.aclose()

    cut_power(settings.store_directory, medium, journal=journal)
    kept = await synced(manager, keys)
    hold.set()
    await clock.age_lanes(keys, settings.lease * 3)
    await Agenda(manager.connection, settings).look(keys)
    successor = Engine(settings, reclaiming=False)
    await successor.start()
    async with asyncio.timeout(60):
        await successor.perform(SCOPE, registration.uid, "job-2")
    await successor.aclose()

    [record] = await registration.match_all()
    assert (await record.refresh()).result == "success"
    assert await (await record.response_ready).read() == BODY
    asked = origin.log[-1].headers.get("range")
    assert asked == (f"bytes={kept}-" if journal else None)


async def synced(manager: BackgroundFetchManager, keys: FetchKeys) -> int:
    """How many bytes of the first record Redis counts on."""
    checkpoint = (await manager.reader.look(keys, 0)).state.checkpoint
    return checkpoint.length if checkpoint else 0


def cut_power(directory: Path, medium: Medium, *, journal: bool) -> None:
    """Leave of a store what was synced; ``journal``: names come with their files."""
    before = directory.with_name("before")
    directory.rename(before)
    shutil.copytree(before, directory, ignore=shutil.ignore_patterns("?" * 32))
    for place in ("parts", "blobs"):
        there = os.listdir(before / place) if journal else medium.names.get(place, ())
        for name in set(there) & medium.content.keys():
            (directory / place / name).write_bytes(medium.content[name])
