"""Transfers that are limited in bytes a second: slower, and not given up for it.

What is asserted of time is only that something took long enough.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tests.integration.wire import Scripted, Taken, get, open_transport
from workers.demo.origin import Origin
from workers.exchange import Fault, Outgoing, TransferError
from workers.uploads import InlineUpload

KiB = 1024
BODY = bytes(range(256)) * 4 * 64
"""64 KiB: four chunks of libcurl's."""


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as running:
        running.add("/", BODY)
        yield running


async def test_a_limited_transfer_takes_its_time_and_is_not_called_stalled(
    origin: Origin,
) -> None:
    began = time.monotonic()
    async with open_transport(transfer_rate=32 * KiB, low_speed_time=0.1) as transport:
        taken = await get(transport, origin.url("/"))

    assert taken.body == BODY
    assert time.monotonic() - began > 0.9


async def test_transfers_share_the_rate_of_the_process_and_none_is_called_stalled(
    origin: Origin,
) -> None:
    """Each waits for far longer than a silent origin might."""
    began = time.monotonic()
    async with open_transport(rate=100 * KiB, low_speed_time=0.2) as transport:
        all_taken = await asyncio.gather(
            *(get(transport, origin.url("/")) for _ in range(3))
        )

    assert [taken.body for taken in all_taken] == [BODY] * 3
    assert time.monotonic() - began > (192 - 32) / 100


async def test_uploads_count_too(origin: Origin) -> None:
    began = time.monotonic()
    async with (
        open_transport(rate=50 * KiB, first_byte_timeout=1.0) as transport,
        asyncio.timeout(20),
    ):
        outgoing = Outgoing("POST", origin.url("/"), (), InlineUpload(BODY * 2))
        await transport.exchange(outgoing, Taken(wanted=False))

    assert origin.log[0].body == BODY * 2
    assert time.monotonic() - began > 0.5


async def test_a_transfer_that_waits_for_its_turn_is_cancelled_at_once() -> None:
    """And so is closing: the first chunk uses up what there is for a minute."""
    asked = asyncio.Semaphore(0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n" + BODY)
        asked.release()
        await reader.readexactly(1)

    first, second = Taken(), Taken()
    async with (
        Scripted(serve) as origin,
        open_transport(rate=256) as transport,
        asyncio.timeout(20),
    ):
        outgoing = Outgoing("GET", origin.url)
        cancelled = asyncio.create_task(transport.exchange(outgoing, first))
        await first.began.wait()
        closed = asyncio.create_task(transport.exchange(outgoing, second))
        await asked.acquire()
        await asked.acquire()

        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        await origin.gone.wait()
        await transport.aclose()

        with pytest.raises(TransferError) as failed:
            await closed
        assert failed.value.fault is Fault.STOPPED
        assert not second.body


async def test_a_sink_that_has_enough_after_a_pause_stops_the_exchange(
    origin: Origin,
) -> None:
    taken = Taken(stop_after=20 * KiB)
    async with open_transport(rate=64 * KiB) as transport, asyncio.timeout(20):
        with pytest.raises(TransferError) as failed:
            await transport.exchange(Outgoing("GET", origin.url("/")), taken)
        assert failed.value.fault is Fault.STOPPED
        assert len(taken.body) < len(BODY)

        assert (await get(transport, origin.url("/"))).body == BODY


async def test_an_origin_that_stalls_is_still_found_out() -> None:
    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        await reader.read()

    async with (
        open_transport(rate=64 * KiB, low_speed_time=0.2) as transport,
        Scripted(stall) as origin,
    ):
        with pytest.raises(TransferError, match="less than 1 byte/s"):
            await get(transport, origin.url)
