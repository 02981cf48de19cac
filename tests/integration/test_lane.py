"""A lane and its transfers, where they could get in each other's way."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from broker.blobs import DirectoryStore
from broker.keys import FetchKeys
from broker.lanes import Refusal
from broker.manager import BackgroundFetchManager
from broker.settings import Settings
from schemas.records import ResponseHead
from tests.integration.clock import SCOPE
from workers.complete import Exchanges
from workers.lane import Lane
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


async def test_a_record_succeeds_only_as_a_blob_even_if_its_lane_wakes_as_it_ends(
    manager: BackgroundFetchManager, settings: Settings
) -> None:
    """R5: a transfer is decided a moment before its task has ended."""
    registration = await manager.fetch("a", ["https://cdn.example/a"])
    keys = FetchKeys(SCOPE, registration.uid)
    store = DirectoryStore.open(settings.store_directory, settings.durability)
    transport = _Transport()
    exchanges = Exchanges(cast("Transport", transport), store, settings)
    lane = Lane(manager.connection, settings, exchanges, keys)
    transport.at_the_end = lane.hurry

    refusal = await lane.run("job")

    assert refusal is Refusal.ENDED
    [record] = await registration.match_all()
    assert await (await record.response_ready).read() == b"body"
    [blob] = (settings.store_directory / "blobs").iterdir()
    assert blob.read_bytes() == b"body"
