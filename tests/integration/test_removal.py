"""Removing a scope: what ends, what goes, and what comes after it (BF-LIFE-02)."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from broker import removal as removing
from broker.agenda import Agenda
from broker.blobs import DirectoryStore
from broker.deliveries import Refused
from broker.keys import CLEARED, PREFIX, PULLED, RECLAIM, FetchKeys, ScopeKeys
from broker.manager import BackgroundFetchManager, connect
from broker.policies import write_policy
from broker.removal import Removal, removals
from broker.settings import Settings
from broker.stream import Subscription
from schemas.errors import InvalidState
from schemas.policies import ScopePolicy
from schemas.requests import Request
from tests.integration.clock import SCOPE
from tests.integration.commands import Bgfetch
from tests.integration.delivering import Process, begin, read
from tests.integration.working import perform
from workers.demo.origin import Origin
from workers.engine import Engine
from workers.events import BackgroundFetchEvent
from workers.reclaim import Reclaimer
from workers.runtime import Runtime
from workers.service_worker import ServiceWorker

URL = "https://cdn.example/1"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Bytes go as soon as nobody reads them."""
    return settings.model_copy(update={"release_grace": timedelta(0)})


@pytest.fixture
async def reclaimer(manager: BackgroundFetchManager, settings: Settings) -> Reclaimer:
    """A reclaimer of a worker that has the store."""
    store = DirectoryStore.open(settings.store_directory, settings.durability)
    agenda = Agenda(manager.connection, settings)
    return Reclaimer(agenda, manager.queue, store, settings)


async def left_of(manager: BackgroundFetchManager, but: str = "") -> list[str]:
    """Names of keys, and members of shared ones, that tell of the scope, or of jobs."""
    ask, found = manager.connection.ask, []
    for key in await ask("KEYS", "*"):
        name = key.decode()
        kind = await ask("TYPE", key)
        read = {b"zset": ("ZRANGE", name, 0, -1), b"set": ("SMEMBERS", name)}
        if name.startswith((f"{PREFIX}{SCOPE}", "rq:job:")):
            if not name.endswith((":staged", ":bodies")):  # these have a TTL
                found.append(name)
        elif kind in read and name != f"{PREFIX}removed":
            members = [member.decode() for member in await ask(*read[kind])]
            found += [f"{name} {each}" for each in members if each.startswith(SCOPE)]
        elif name == RECLAIM:
            fields = [field.decode() for field in await ask("HKEYS", name)]
            found += [f"{name} {each}" for each in fields if each.startswith(SCOPE)]
        elif name.startswith("rq:queue:"):
            found += [job.decode() for job in await ask("LRANGE", name, 0, -1)]
    return [each for each in found if not but or but not in each]


def files_in(settings: Settings) -> list[str]:
    store = settings.store_directory
    return [each.name for at in ("parts", "blobs") for each in (store / at).iterdir()]


async def test_nothing_of_a_removed_scope_is_left(
    manager: BackgroundFetchManager,
    engine: Engine,
    origin: Origin,
    process: Process,
    reclaimer: Reclaimer,
    settings: Settings,
) -> None:
    """BF-LIFE-02: keys, blobs, queued jobs, subscribers, rules; others keep theirs."""
    await write_policy(manager.connection, SCOPE, ScopePolicy(quota=10**9))
    origin.add("/100", bytes(100))
    origin.add("/9", bytes(9))
    subscriber = await process("a")
    body = Request(URL, method="POST", body=bytes(1_000_000))
    done = await perform(engine, await manager.fetch("done", origin.url("/100")))
    await begin(subscriber, (await read(subscriber))[0])
    await manager.connection.ask("SADD", PULLED, f"{SCOPE}/a")
    for id, wanted in (("waits", URL), ("uploads", body), ("queued", [URL] * 5)):
        await manager.fetch(id, wanted)
    async with connect(scope="other", settings=settings) as other:
        kept = await perform(engine, await other.fetch("x", origin.url("/9")))
        told: list[tuple[int, int]] = []

        removed = await manager.unregister(lambda *counts: told.append(counts))

        assert removed
        assert told[-1] == (4, 4)
        assert [await manager.get_ids(), await manager.history()] == [[], []]
        assert await manager.lookup(done.uid) is None
        await reclaimer.make_pass()
        await reclaimer.make_pass()
        [record] = await kept.match_all()
        assert len(await (await record.response_ready).read()) == 9
        assert len(files_in(settings)) == 1
    assert await left_of(manager, but=kept.uid) == []
    assert not await manager.unregister()


async def test_an_active_fetch_ends_without_an_event(
    manager: BackgroundFetchManager,
    engine: Engine,
    origin: Origin,
    settings: Settings,
    reclaimer: Reclaimer,
) -> None:
    """BF-EVT-13: transfers stop, keys and blobs go, and no handler is called."""
    handled: list[str] = []
    lives, loop = asyncio.Event(), asyncio.get_running_loop()
    sw = ServiceWorker(SCOPE)

    def handle(event: BackgroundFetchEvent) -> None:
        handled.append(event.registration.id)
        loop.call_soon_threadsafe(lives.set)

    for type in ("success", "fail", "abort", "click"):
        sw.add_event_listener(f"backgroundfetch{type}", handle)
    await (await manager.fetch("before", URL)).abort()
    subscriber = asyncio.create_task(Runtime(sw, settings).run())
    origin.add("/x", bytes(2_000_000), hold=asyncio.Event())
    registration = await manager.fetch("x", origin.url("/x"))
    lane = asyncio.create_task(engine.perform(SCOPE, registration.uid, "job"))
    async with asyncio.timeout(60):
        async for progress in registration.progress():
            if progress.downloaded:
                break
        await lives.wait()

        assert await manager.unregister()
        await asyncio.gather(lane, subscriber)  # both hear of it, and end

    assert not await registration.abort()
    with pytest.raises(InvalidState):
        await registration.click()
    assert handled == ["before"]
    await reclaimer.make_pass()
    await reclaimer.make_pass()
    assert await left_of(manager) == []
    assert files_in(settings) == []


async def test_what_was_read_before_does_not_begin_any_more(
    manager: BackgroundFetchManager, process: Process, settings: Settings
) -> None:
    """BF-EVT-13: not while the scope is removed either; who holds one has lost it."""
    subscriber = await process("a")
    for id in ("held", "read"):
        await (await manager.fetch(id, URL)).abort()
    first, second = await read(subscriber)
    held = await begin(subscriber, first)
    scope = Removal(manager.connection, settings, SCOPE)

    await scope.begin()
    meanwhile = await subscriber.begin(second)
    assert await manager.unregister()

    assert meanwhile == await subscriber.begin(second) == Refused.DONE
    assert not await subscriber.ack(held)
    with pytest.raises(InvalidState, match="was removed"):
        await subscriber.join(again=True)
    assert await left_of(manager) == []


async def test_a_reader_with_an_open_body_finishes_it(
    manager: BackgroundFetchManager,
    engine: Engine,
    origin: Origin,
    settings: Settings,
    reclaimer: Reclaimer,
) -> None:
    """R17: the bytes go with the last reader, and nobody begins to read them."""
    size = 3_000_000
    origin.add("/x", bytes(size))
    registration = await manager.fetch("x", origin.url("/x"))
    await perform(engine, registration)
    [record] = await registration.match_all()
    response = await record.response_ready
    body = aiter(response.body)
    got = len(await anext(body))

    await manager.unregister()
    await reclaimer.make_pass()
    kept = files_in(settings)
    async for chunk in body:
        got += len(chunk)
    readers = FetchKeys(SCOPE, registration.uid).readers
    await manager.connection.ask("DEL", readers)  # their leases end
    await manager.connection.ask("ZADD", CLEARED, 0, f"{SCOPE}/{registration.uid}")
    await reclaimer.make_pass()

    assert got == size
    assert len(kept) == 1
    assert files_in(settings) == []
    assert await left_of(manager) == []


async def test_a_fetch_is_refused_meanwhile_and_whole_in_the_new_scope_afterwards(
    manager: BackgroundFetchManager,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Issue: safe against concurrent fetch(); nor does anybody join, or make rules."""
    monkeypatch.setattr(removing, "BATCH", 2)
    for n in range(5):
        await manager.fetch(f"old-{n}", URL)
    scope = Removal(manager.connection, settings, SCOPE)
    refusals = 0

    await scope.begin()
    while True:
        with pytest.raises(InvalidState, match=r"'podcasts' is being removed: try"):
            await manager.fetch("new", URL)
        refusals += 1
        with pytest.raises(InvalidState, match="rules go"):
            await write_policy(manager.connection, SCOPE, ScopePolicy())
        newcomer = Subscription(manager.connection, settings, SCOPE, "a")
        with pytest.raises(InvalidState, match="is being removed"):
            await newcomer.join()
        await newcomer.aclose()
        if (await scope.step()).done:
            break
    new = await manager.fetch("new", URL)
    late = await scope.step()  # of another process, that has not heard

    assert refusals == 4
    assert late.done
    assert await manager.get_ids() == ["new"]
    assert await new.abort()
    assert len(
        await manager.connection.ask("XRANGE", ScopeKeys(SCOPE).events, "-", "+")
    )


DIES = """
import asyncio, os, signal, sys
from broker import removal
from broker.manager import connect
from broker.settings import Settings

removal.BATCH = 2

async def main():
    settings = Settings(redis_url=sys.argv[1])
    async with connect(scope=sys.argv[2], settings=settings) as manager:
        await manager.unregister(lambda *_: os.kill(os.getpid(), signal.SIGKILL))

asyncio.run(main())
"""


async def test_a_removal_whose_process_was_killed_is_finished_by_a_reclaimer(
    manager: BackgroundFetchManager,
    process: Process,
    settings: Settings,
    reclaimer: Reclaimer,
) -> None:
    """R25: killed after the first of several steps; the scope stays closed."""
    await process("a")
    for n in range(7):
        await manager.fetch(str(n), URL)
    root = Path(__file__).parents[2]

    dying = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DIES, settings.redis_url or "", SCOPE, cwd=root
    )
    assert await asyncio.wait_for(dying.wait(), 60) == -signal.SIGKILL
    left = await manager.get_ids()
    with pytest.raises(InvalidState):
        await manager.fetch("new", URL)
    await reclaimer.make_pass()

    assert left == ["2", "3", "4", "5", "6"]
    assert await left_of(manager) == []
    assert await removals(manager.connection, settings) == []
    assert (await manager.fetch("new", URL)).id == "new"


async def test_two_may_remove_one_scope_at_the_same_time(
    manager: BackgroundFetchManager,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(removing, "BATCH", 3)
    await asyncio.gather(*(manager.fetch(str(n), URL) for n in range(100)))
    async with connect(scope=SCOPE, settings=settings) as other:
        both = await asyncio.gather(manager.unregister(), other.unregister())

    assert True in both
    assert await left_of(manager) == []


async def test_many_fetches_are_removed_in_bounded_calls(
    manager: BackgroundFetchManager, settings: Settings
) -> None:
    """R22: so many at a time, whatever their number."""
    ids = [str(n) for n in range(250)]
    await asyncio.gather(*(manager.fetch(id, URL) for id in ids))
    scope = Removal(manager.connection, settings, SCOPE)
    steps = []

    assert await scope.begin() == 250
    while not (step := await scope.step()).done:
        steps.append(step.cleared)

    assert steps == [50] * 5


def test_the_command_lists_and_removes_scopes(
    bgfetch: Bgfetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    bgfetch("fetch", URL, "--id", "x")
    bgfetch("scope", "set", "ruled", "--https-only")
    listed = json.loads(bgfetch("scope", "list", "--json")[1])
    asked = bgfetch("scope", "remove", SCOPE)

    removed = bgfetch("scope", "remove", SCOPE, "--yes", "--json")
    again = bgfetch("scope", "remove", SCOPE, "--yes")
    _, lines, _ = bgfetch("scope", "list")

    assert [(row["scope"], row["active"]) for row in listed] == [
        (SCOPE, 1),
        ("ruled", 0),
    ]
    assert asked[0] == 2
    assert "add --yes" in asked[2]
    assert removed[0] == 0
    assert json.loads(removed[1]) == {
        "scope": SCOPE,
        "removed": True,
        "bytesLeftOf": 0,
    }
    assert again[0] == 1
    assert f"no scope '{SCOPE}'" in again[2]
    assert lines == "ruled\t0\t0\t0\t0 bytes\tin use\n"


def test_a_scope_of_our_own_is_nobodys(bgfetch: Bgfetch) -> None:
    code, _, told = bgfetch("list", "--scope", "bgfetch.icons")

    assert code != 0
    assert "'bgfetch.icons' is no scope name: names in 'bgfetch.' are reserved" in told
