"""``registration.progress()``: coalesced, and never without the outcome (R25)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import pytest
import redis

from broker import blocking
from broker.agenda import Agenda
from broker.keys import RECLAIM, FetchKeys, ScopeKeys
from broker.lanes import LaneHold, RecordReport
from broker.manager import BackgroundFetchManager, connect
from broker.registration import BackgroundFetchRegistration
from broker.settings import Settings
from schemas.fetches import FetchState, Progress
from tests.integration.clock import SCOPE, Clock

URL = "https://cdn.example/1"
PATIENCE = 30.0
CHANNEL = ScopeKeys(SCOPE).progress


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    """A connection of the test's own, whose changes of the server are undone."""
    with redis.Redis.from_url(redis_url) as client:
        limits = client.config_get("client-output-buffer-limit")
        yield client
        client.config_set(*next(iter(limits.items())))
        tell(client, "ACL SETUSER default +@all")


@pytest.fixture
def no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no waiter read the hash again because time has passed."""
    monkeypatch.setattr("broker.live_state.REREAD_SECONDS", 3600.0)


@pytest.fixture
async def elsewhere(settings: Settings) -> AsyncIterator[BackgroundFetchManager]:
    """The same scope in another process, so to speak."""
    async with connect(scope=SCOPE, settings=settings) as opened:
        yield opened


async def follow(registration: BackgroundFetchRegistration) -> list[Progress]:
    return [progress async for progress in registration.progress()]


async def begin(registration: BackgroundFetchRegistration) -> AsyncIterator[Progress]:
    """An iterator that has shown the first state, and is subscribed."""
    progress = registration.progress()
    await anext(progress)
    return progress


async def ends(progress: AsyncIterator[Progress]) -> Progress:
    """The last state; the iterator has ended after it."""
    async with asyncio.timeout(PATIENCE):
        return [each async for each in progress][-1]


def tell(server: redis.Redis, command: str) -> None:
    server.execute_command(*command.split())  # type: ignore[no-untyped-call]


def subscribed(server: redis.Redis) -> list[str]:
    return [row["id"] for row in server.client_list(_type="pubsub")]


async def publish(
    manager: BackgroundFetchManager, state: FetchState, version: int
) -> None:
    """Tell of a state as lanes do."""
    told = state.model_copy(update={"version": version, "downloaded": version})
    await manager.connection.ask("PUBLISH", CHANNEL, told.encode())


async def abort(manager: BackgroundFetchManager, id: str = "x") -> None:
    registration = await manager.find(id)
    assert registration is not None
    assert await registration.abort()


@pytest.mark.usefixtures("no_reading")
async def test_an_outcome_that_nobody_could_tell_is_read_after_the_connection_is_back(
    manager: BackgroundFetchManager,
    elsewhere: BackgroundFetchManager,
    server: redis.Redis,
) -> None:
    """Faults 76 and 83: cut, kept away while it happens, and let in again."""
    progress = await begin(await manager.fetch("x", URL))

    tell(server, "ACL SETUSER default -subscribe")
    tell(server, "CLIENT KILL TYPE pubsub")
    await abort(elsewhere)
    assert subscribed(server) == []
    tell(server, "ACL SETUSER default +subscribe")

    assert (await ends(progress)).failure_reason == "aborted"


@pytest.mark.usefixtures("no_reading")
async def test_a_reader_that_redis_cuts_off_for_being_slow_gets_the_outcome_too(
    manager: BackgroundFetchManager, settings: Settings, server: redis.Redis
) -> None:
    """Faults 83: ``client-output-buffer-limit pubsub``."""
    progress = await begin(await manager.fetch("x", URL))
    server.config_set("client-output-buffer-limit", "pubsub 65536 65536 0")

    # From here to the abort nothing gives way to the event loop, on purpose.
    [slow] = subscribed(server)
    while slow in subscribed(server):
        server.publish(CHANNEL, b"\xc1" * 65536)
    with blocking.connect(scope=SCOPE, settings=settings) as other:
        other.find("x").abort()

    assert (await ends(progress)).failure_reason == "aborted"


async def test_without_any_message_the_hash_is_read_every_few_seconds(
    manager: BackgroundFetchManager,
    elsewhere: BackgroundFetchManager,
    server: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """R25: messages are hints."""
    monkeypatch.setattr("broker.live_state.REREAD_SECONDS", 0.1)
    progress = await begin(await manager.fetch("x", URL))

    tell(server, "ACL SETUSER default -subscribe")
    tell(server, "CLIENT KILL TYPE pubsub")
    await abort(elsewhere)

    assert (await ends(progress)).failure_reason == "aborted"


async def test_a_slow_reader_holds_nobody_back_and_gets_the_last_state(
    manager: BackgroundFetchManager, elsewhere: BackgroundFetchManager
) -> None:
    """BF-PROG-08."""
    registration = await manager.fetch("x", URL)
    slow, fast = await begin(registration), await begin(registration)
    last = 500
    hash_ = FetchKeys(SCOPE, registration.uid).fetch
    await manager.connection.ask("HSET", hash_, "version", last)

    for version in range(100, last + 1):
        await publish(elsewhere, registration.state, version)
    seen = 0
    async with asyncio.timeout(PATIENCE):
        while seen < last:
            seen = (await anext(fast)).downloaded
    coalesced = await anext(slow)
    await abort(elsewhere)

    assert coalesced.downloaded == last
    assert (await ends(slow)).result == (await ends(fast)).result == "failure"


async def test_many_readers_of_one_manager_share_one_connection(
    manager: BackgroundFetchManager, server: redis.Redis
) -> None:
    registrations = [await manager.fetch(str(n), URL) for n in range(20)]
    readers = [asyncio.create_task(follow(each)) for each in registrations * 3]
    await asyncio.gather(*(each.refresh() for each in registrations))

    shared = subscribed(server)
    for each in registrations:
        await each.abort()
    async with asyncio.timeout(PATIENCE):
        followed = await asyncio.gather(*readers)

    assert len(shared) == 1
    assert subscribed(server) == shared
    assert all(states[-1].result == "failure" for states in followed)


async def test_a_redis_that_lost_its_newest_writes_is_believed_all_the_same(
    manager: BackgroundFetchManager,
    elsewhere: BackgroundFetchManager,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Faults 77: its outcome may have a version that was seen before."""
    monkeypatch.setattr("broker.live_state.REREAD_SECONDS", 0.1)
    registration = await manager.fetch("x", URL)
    progress = await begin(registration)
    lost = registration.state.version + 100
    await publish(elsewhere, registration.state, lost)
    seen = await anext(progress)

    await abort(elsewhere)

    assert seen.downloaded == lost
    assert (await ends(progress)).failure_reason == "aborted"


@pytest.mark.usefixtures("no_reading")
@pytest.mark.parametrize("dies", [False, True])
async def test_a_lane_that_goes_leaves_no_progress_untold(
    manager: BackgroundFetchManager,
    settings: Settings,
    clock: Clock,
    *,
    dies: bool,
) -> None:
    """BF-PROG-08: a throttle never drops the last state, whoever listens."""
    slow = settings.model_copy(update={"progress_interval": timedelta(hours=1)})
    registration = await manager.fetch("x", [URL, URL])
    told: asyncio.Queue[int] = asyncio.Queue()
    registration.onprogress = lambda event: told.put_nowait(event.target.downloaded)
    keys = FetchKeys(SCOPE, registration.uid)
    lane = LaneHold(manager.connection, slow, keys)
    await lane.take("job", 1)
    for stored in (100, 200, 300):
        await lane.report([RecordReport(0, stored)], want=0, held=1)

    if dies:
        await manager.connection.ask("HSET", RECLAIM, "grace_until", 0)
        await clock.age_lanes(keys, timedelta(hours=1))
        await Agenda(manager.connection, slow).look(keys)
    else:
        await lane.leave()

    async with asyncio.timeout(PATIENCE):
        assert [await told.get(), await told.get()] == [100, 300]
