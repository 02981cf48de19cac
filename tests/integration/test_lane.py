"""A lane and its transfers, where they could get in each other's way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from typing_extensions import override

from broker.agenda import Agenda
from broker.blobs import DirectoryStore
from broker.connection import Connection
from broker.keys import FetchKeys
from broker.lanes import LaneHold, Opened, Refusal
from broker.manager import BackgroundFetchManager
from broker.scripts import Argument
from broker.settings import Settings
from schemas.errors import Unreachable
from schemas.records import ResponseHead
from tests.integration.clock import SCOPE, Clock
from workers.lane import Lane
from workers.resources import Exchanges
from workers.slots import Slots
from workers.transport import Outgoing, Sink, Transport


class _Transport:
    """Answers at once, and lets the lane run between the last byte and the end."""

    def __init__(self) -> None:
        self.at_the_end: Callable[[], None] = lambda: None

    async def exchange(self, outgoing: Outgoing, sink: Sink, **_: object) -> None:
        head = ResponseHead(
            status=200, headers=(("Content-Length", "4"),), url=outgoing.url
        )
        assert sink.head(head)
        assert sink.write(b"body")
        self.at_the_end()


class _Endless:
    """Sends two bytes, and the others when it may."""

    def __init__(self) -> None:
        self.may = asyncio.Event()

    async def exchange(self, outgoing: Outgoing, sink: Sink, **_: object) -> None:
        head = ResponseHead(
            status=200, headers=(("Content-Length", "4"),), url=outgoing.url
        )
        assert sink.head(head)
        assert sink.write(b"bo")
        await self.may.wait()
        assert sink.write(b"dy")


class _Deaf(Connection):
    """Loses the answer to the first report, which has done its work by then."""

    def __init__(self, url: str, meanwhile: Callable[[], Awaitable[object]]) -> None:
        super().__init__(url)
        self._meanwhile: Callable[[], Awaitable[object]] | None = meanwhile

    @override
    async def run(
        self, name: str, keys: Sequence[str], arguments: Sequence[Argument] = ()
    ) -> Any:
        answer = await super().run(name, keys, arguments)
        if name == "report" and self._meanwhile is not None:
            meanwhile, self._meanwhile = self._meanwhile, None
            await meanwhile()
            raise Unreachable("the answer was lost")
        return answer


async def test_a_blob_stays_whose_success_was_answered_into_the_void(
    manager: BackgroundFetchManager, settings: Settings
) -> None:
    """R3, R14: the repetition hears only that the fetch is settled."""
    registration = await manager.fetch("a", ["https://cdn.example/a"])
    store = DirectoryStore.open(settings.store_directory, settings.durability)
    exchanges = Exchanges(cast("Transport", _Transport()), store, settings, Slots(9, 9))
    deaf = _Deaf(manager.connection.url, registration.refresh)
    lane = Lane(deaf, settings, exchanges, FetchKeys(SCOPE, registration.uid))

    refusal = await lane.run("job")
    await deaf.aclose()

    assert refusal is Refusal.SETTLED
    [record] = await registration.match_all()
    assert await (await record.response_ready).read() == b"body"


async def test_a_lane_that_is_over_leaves_the_part_that_its_successor_has(
    manager: BackgroundFetchManager, settings: Settings, clock: Clock
) -> None:
    """R3: Redis names the part, though this lane never heard so."""
    registration = await manager.fetch("a", ["https://cdn.example/a"])
    keys, agenda = (
        FetchKeys(SCOPE, registration.uid),
        Agenda(manager.connection, settings),
    )
    store = DirectoryStore.open(settings.store_directory, settings.durability)
    exchanges = Exchanges(cast("Transport", _Endless()), store, settings, Slots(9, 9))

    async def take_over() -> None:
        await clock.age_lanes(keys, settings.lease * 2)
        await agenda.look(keys)

    deaf = _Deaf(manager.connection.url, take_over)
    refusal = await Lane(deaf, settings, exchanges, keys).run("job")
    await deaf.aclose()

    assert refusal is Refusal.STALE
    successor = LaneHold(manager.connection, settings, keys)
    opened = await successor.take("job", 1)
    assert isinstance(opened, Opened)
    [part] = (settings.store_directory / "parts").iterdir()
    assert await successor.named([0]) == {part.name}


class _Forgetful(Connection):
    """Has lost its last writes when the first report comes: the record is free."""

    def __init__(self, url: str, keys: FetchKeys, meanwhile: asyncio.Event) -> None:
        super().__init__(url)
        self._keys = keys
        self._meanwhile = meanwhile

    @override
    async def run(
        self, name: str, keys: Sequence[str], arguments: Sequence[Argument] = ()
    ) -> Any:
        if name != "report" or self._meanwhile.is_set():
            return await super().run(name, keys, arguments)
        await self.ask("ZREM", self._keys.claims, 0)
        await self.ask("ZADD", self._keys.pool, 0, 0)
        answer = await super().run(name, keys, arguments)
        self._meanwhile.set()
        for _ in range(10):  # the transfer ends before the answer is heard
            await asyncio.sleep(0)
        return answer


async def test_a_record_lost_and_got_again_in_one_answer_is_fetched_anew(
    manager: BackgroundFetchManager, settings: Settings
) -> None:
    """R2: what the lane had of it is void, also if its last byte came meanwhile."""
    registration = await manager.fetch("a", ["https://cdn.example/a"])
    keys = FetchKeys(SCOPE, registration.uid)
    store = DirectoryStore.open(settings.store_directory, settings.durability)
    transport = _Endless()
    exchanges = Exchanges(cast("Transport", transport), store, settings, Slots(9, 9))
    forgetful = _Forgetful(manager.connection.url, keys, transport.may)

    refusal = await Lane(forgetful, settings, exchanges, keys).run("job")
    await forgetful.aclose()

    assert refusal is Refusal.ENDED
    [record] = await registration.match_all()
    assert await (await record.response_ready).read() == b"body"
    assert not list((settings.store_directory / "parts").iterdir())


async def test_a_lane_that_is_over_deletes_the_part_that_nobody_has(
    manager: BackgroundFetchManager, settings: Settings
) -> None:
    """R3: it made the part, and Redis does not name it."""
    registration = await manager.fetch("a", ["https://cdn.example/a"])
    keys = FetchKeys(SCOPE, registration.uid)
    store = DirectoryStore.open(settings.store_directory, settings.durability)
    transport = _Transport()
    exchanges = Exchanges(cast("Transport", transport), store, settings, Slots(9, 9))
    lane = Lane(manager.connection, settings, exchanges, keys)
    aborted = []
    transport.at_the_end = lambda: aborted.append(
        asyncio.ensure_future(registration.abort())
    )

    refusal = await lane.run("job")
    await asyncio.gather(*aborted)

    assert refusal is Refusal.SETTLED
    assert not list((settings.store_directory / "parts").iterdir())
    assert not list((settings.store_directory / "blobs").iterdir())


async def test_a_record_succeeds_only_as_a_blob_even_if_its_lane_wakes_as_it_ends(
    manager: BackgroundFetchManager, settings: Settings
) -> None:
    """R5: a transfer is decided a moment before its task has ended."""
    registration = await manager.fetch("a", ["https://cdn.example/a"])
    keys = FetchKeys(SCOPE, registration.uid)
    store = DirectoryStore.open(settings.store_directory, settings.durability)
    transport = _Transport()
    exchanges = Exchanges(cast("Transport", transport), store, settings, Slots(9, 9))
    lane = Lane(manager.connection, settings, exchanges, keys)
    transport.at_the_end = lane.hurry

    refusal = await lane.run("job")

    assert refusal is Refusal.ENDED
    [record] = await registration.match_all()
    assert await (await record.response_ready).read() == b"body"
    [blob] = (settings.store_directory / "blobs").iterdir()
    assert blob.read_bytes() == b"body"
