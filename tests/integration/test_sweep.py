"""Sweeping a store (R16): orphans go, and nothing else ever does."""

from __future__ import annotations

import asyncio
import io
import json
import os
from datetime import timedelta
from pathlib import Path

import pytest

from broker import sweep
from broker.blobs import DirectoryStore, Part
from broker.cli.app import command_line, run
from broker.connection import Connection
from broker.keys import IDENTITY, FetchKeys, orphans, sweeping
from broker.manager import BackgroundFetchManager
from broker.settings import Settings, milliseconds
from broker.stores import introduce
from broker.sweep import Sweep
from schemas.errors import StorageError, Unreachable
from schemas.records import Checkpoint, RecordState
from schemas.requests import Request
from tests.integration.clock import SCOPE
from workers.engine import Engine

DAYS = timedelta(days=2)


@pytest.fixture
def store(settings: Settings) -> DirectoryStore:
    return DirectoryStore.open(settings.store_directory, settings.durability)


@pytest.fixture
async def sweeper(manager: BackgroundFetchManager, store: DirectoryStore) -> Sweep:
    await introduce(manager.connection, store)
    return Sweep(manager.connection, store)


def left_behind(store: DirectoryStore, *, whole: bool = False, age: bool = True) -> str:
    """Leave a file in the store, written two days ago, and return its name."""
    part: Part = store.create()
    part.write(b"bytes")
    part.flush()
    part.close()
    place = store.directory / "parts" / part.name
    if whole:
        place = place.rename(store.directory / "blobs" / part.name)
    if age:
        then = place.stat().st_mtime - DAYS.total_seconds()
        os.utime(place, (then, then))
    return part.name


async def pass_an_hour(connection: Connection, store: DirectoryStore) -> None:
    key = orphans(store.id)
    for name in await connection.ask("ZRANGE", key, 0, -1):
        await connection.ask("ZINCRBY", key, -milliseconds(sweep.APART), name)


def names_in(store: DirectoryStore) -> set[str]:
    return {
        name
        for place in ("parts", "blobs")
        for name in os.listdir(store.directory / place)
    }


async def test_an_orphan_goes_when_two_sweeps_an_hour_apart_have_seen_it(
    manager: BackgroundFetchManager, store: DirectoryStore, sweeper: Sweep
) -> None:
    """R16: and the first one, or another at once, leaves it where it is."""
    part, blob = left_behind(store), left_behind(store, whole=True)
    young = left_behind(store, age=False)

    first, at_once = await sweeper.run(), await sweeper.run()
    kept = names_in(store)
    await pass_an_hour(manager.connection, store)
    dry = await sweeper.run(dry_run=True)
    kept_dry = names_in(store)
    last = await sweeper.run()

    assert sorted(first.waiting) == sorted(at_once.waiting) == sorted([part, blob])
    assert first.deleted == at_once.deleted == ()
    assert kept == kept_dry == {part, blob, young}
    assert sorted(dry.deleted) == sorted(last.deleted) == sorted([part, blob])
    assert names_in(store) == {young}
    assert await sweeper.run() == sweep.Swept((), ())


async def test_a_dry_run_is_no_sighting(
    manager: BackgroundFetchManager, store: DirectoryStore, sweeper: Sweep
) -> None:
    name = left_behind(store)

    dry = await sweeper.run(dry_run=True)
    await pass_an_hour(manager.connection, store)

    assert dry.waiting == (name,)
    assert (await sweeper.run()).waiting == (name,)


async def test_what_records_name_stays_however_old_it_is(
    manager: BackgroundFetchManager, store: DirectoryStore, sweeper: Sweep
) -> None:
    """R16: in an active fetch, as the body of a request, and in a staged one."""
    active, body, staged = (left_behind(store) for _ in range(3))
    registration = await manager.fetch("x", "https://cdn.example/x")
    keys = FetchKeys(SCOPE, registration.uid)
    checkpoint = Checkpoint(store=store.id, part=active, length=5)
    state = RecordState(checkpoint=checkpoint, digest="ab" * 32).encode()
    await manager.connection.ask("HSET", keys.records, 0, state)
    await manager.connection.ask(
        "HSET", keys.requests, 7, b"\x81\xa4body\xd9 " + body.encode()
    )
    unregistered = FetchKeys(SCOPE, "not-yet").staged
    await manager.connection.ask("HSET", unregistered, 0, b"\xd9 " + staged.encode())

    first = await sweeper.run()
    await pass_an_hour(manager.connection, store)
    second = await sweeper.run()

    assert first == second == sweep.Swept((), ())
    assert names_in(store) == {active, body, staged}


async def test_the_stored_body_of_a_request_lives_as_long_as_its_fetch(
    manager: BackgroundFetchManager, store: DirectoryStore, sweeper: Sweep
) -> None:
    """R16: it is older than its fetch, and no record names it."""
    url = "https://cdn.example/x"
    await manager.fetch("x", Request(url, method="POST", body=bytes(1_000_000)))
    [body] = (store.directory / "blobs").iterdir()
    os.utime(body, (0, 0))

    await sweeper.run()
    await pass_an_hour(manager.connection, store)

    assert await sweeper.run() == sweep.Swept((), ())
    assert body.exists()


async def test_an_orphan_that_is_named_again_counts_from_the_start(
    manager: BackgroundFetchManager, store: DirectoryStore, sweeper: Sweep
) -> None:
    """R16: two sweeps in a row have to see it."""
    name = left_behind(store)
    keys = FetchKeys(SCOPE, "any").records
    await sweeper.run()
    await manager.connection.ask("HSET", keys, 0, name)
    await sweeper.run()
    await manager.connection.ask("DEL", keys)
    await pass_an_hour(manager.connection, store)

    assert (await sweeper.run()).waiting == (name,)


async def test_a_store_that_another_redis_has_used_is_not_swept(
    manager: BackgroundFetchManager, store: DirectoryStore, sweeper: Sweep
) -> None:
    """R16: one server's records look like orphans to the other."""
    name = left_behind(store)
    await manager.connection.ask("DEL", IDENTITY)
    with pytest.raises(StorageError, match="no worker of this Redis has used"):
        await sweeper.run()
    await introduce(manager.connection, store)

    with pytest.raises(StorageError, match=r"another Redis's too.*delete tenants/"):
        await sweeper.run()

    assert names_in(store) == {name}


async def test_a_directory_that_became_another_store_is_not_swept(
    store: DirectoryStore, sweeper: Sweep
) -> None:
    """R16: its files may be anybody's."""
    left_behind(store)
    (store.directory / "store-id").write_text("0" * 32)

    assert await sweeper.run() == sweep.Swept((), ())


async def test_a_redis_that_restarts_during_a_sweep_ends_it(
    manager: BackgroundFetchManager,
    store: DirectoryStore,
    sweeper: Sweep,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A scan begun at one server and ended at another may have missed names."""
    left_behind(store)
    servers = iter("ab")

    async def server(_: Sweep) -> str:
        return next(servers)

    monkeypatch.setattr(Sweep, "_server", server)

    with pytest.raises(Unreachable, match="restarted"):
        await sweeper.run()
    assert await manager.connection.ask("EXISTS", orphans(store.id)) == 0


async def test_many_files_are_looked_at_in_portions(
    manager: BackgroundFetchManager,
    store: DirectoryStore,
    sweeper: Sweep,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sweep, "CANDIDATES", 3)
    monkeypatch.setattr(sweep, "BATCH", 2)
    names = {left_behind(store, whole=bool(n % 2)) for n in range(8)}
    named = names.pop()
    await manager.connection.ask("HSET", FetchKeys(SCOPE, "any").records, 0, named)

    await sweeper.run()
    await pass_an_hour(manager.connection, store)
    swept = await sweeper.run()

    assert set(swept.deleted) == names
    assert names_in(store) == {named}


async def test_a_worker_sweeps_by_itself_and_its_fellows_leave_it_to_the_first(
    manager: BackgroundFetchManager,
    store: DirectoryStore,
    sweeper: Sweep,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = left_behind(store)
    await sweeper.run()
    await pass_an_hour(manager.connection, store)

    swept, real = asyncio.Event(), Sweep.run

    async def told(self: Sweep) -> sweep.Swept:
        result = await real(self)
        swept.set()
        return result

    monkeypatch.setattr(Sweep, "run", told)
    engine = Engine(settings)
    await engine.start()
    try:
        async with asyncio.timeout(30):
            await swept.wait()
    finally:
        await engine.aclose()

    assert name not in names_in(store)
    assert not await sweeper.due()
    assert await manager.connection.ask("PTTL", sweeping(store.id)) > 0


def test_people_sweep_by_hand(
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("BGFETCH_REDIS_URL", settings.redis_url or "")
    monkeypatch.setenv("BGFETCH_STORE", str(settings.store))
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.delenv("FORCE_COLOR", raising=False)

    async def prepare(*, age: bool = False) -> str:
        connection = Connection(settings.redis_url or "")
        store = DirectoryStore.open(settings.store_directory)
        await introduce(connection, store)
        name = "" if age else left_behind(store)
        if age:
            await pass_an_hour(connection, store)
        await connection.aclose()
        return name

    def bgfetch(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run(command_line(), ["never", "started"], ["sweep", *arguments])
        return (code, *capsys.readouterr())

    refused, _, why = bgfetch()
    name = asyncio.run(prepare())
    seen, out, told = bgfetch()
    asyncio.run(prepare(age=True))
    _, dry, would = bgfetch("--dry-run")
    code, line, _ = bgfetch("--json")

    assert refused == 1
    assert "no worker of this Redis has used" in why
    assert (seen, out) == (0, "")
    assert told == "bgfetch: 0 orphans deleted; 1 orphan to be seen again in an hour\n"
    assert dry == f"{name}\n"
    assert "1 orphan would be deleted" in would
    assert code == 0
    assert json.loads(line) == {"deleted": [name], "waiting": [], "dryRun": False}
