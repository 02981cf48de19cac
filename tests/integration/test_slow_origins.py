"""Exchanges with origins that let wait, or never end (faults 35 to 38)."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from schemas.records import ResponseHead
from tests.integration.wire import (
    Scripted,
    Taken,
    fault_of,
    get,
    open_transport,
    resident_bytes,
)
from workers.transport import Fault, Outgoing, TransferError

OK = b"HTTP/1.1 200 OK\r\n"
MiB = 1024 * 1024


async def test_a_silent_origin_is_given_up() -> None:
    """Faults 36."""

    async def silent(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await reader.read()

    async with open_transport(first_byte_timeout=0.2) as transport:
        error = await fault_of(transport, silent)

    assert (error.fault, error.detail) == (
        Fault.NETWORK,
        "no whole response head within 0.2 s",
    )


async def test_a_head_that_drips_for_ever_is_given_up() -> None:
    """Faults 37."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        while not writer.is_closing():
            writer.write(b"X: y\r\n")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with open_transport(first_byte_timeout=0.3) as transport:
        error = await fault_of(transport, drip)

    assert "no whole response head" in error.detail


async def test_a_body_that_stalls_is_given_up() -> None:
    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"Content-Length: 10\r\n\r\nhello")
        await reader.read()

    async with open_transport(low_speed_time=0.2) as transport:
        error = await fault_of(transport, stall)

    assert (error.fault, error.detail) == (
        Fault.NETWORK,
        "less than 1 byte/s for 0.2 s",
    )


async def test_a_loop_that_was_held_up_blames_no_origin() -> None:
    """As when the machine slept: what came meanwhile counts before the time does."""

    async def hold_up(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await reader.readuntil(b"\r\n\r\n")
        time.sleep(0.3)  # noqa: ASYNC251 - both ends share the loop that is held up
        await asyncio.sleep(0)
        writer.write(OK + b"Content-Length: 2\r\n\r\nok")
        await writer.drain()

    async with (
        Scripted(hold_up) as origin,
        open_transport(first_byte_timeout=0.1) as transport,
    ):
        taken = await get(transport, origin.url)

    assert taken.body == b"ok"


async def test_an_unwanted_body_that_drips_holds_nobody_up() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 302 Found\r\nContent-Length: 9\r\n\r\nx")
        await reader.read()

    async with (
        open_transport(first_byte_timeout=0.2) as transport,
        Scripted(drip) as origin,
        asyncio.timeout(5),
    ):
        await transport.exchange(Outgoing("GET", origin.url), Taken(wanted=False))


async def test_a_host_that_swallows_connections_is_offline() -> None:
    """Faults 35: a listener whose queue is full answers no further SYN."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for connection in waiting:
            connection.setblocking(False)
            connection.connect_ex(address)
        async with open_transport(connect_timeout=0.3) as transport:
            with pytest.raises(TransferError) as failed:
                await get(transport, f"http://127.0.0.1:{address[1]}/")
        for connection in waiting:
            connection.close()

    assert failed.value.fault is Fault.OFFLINE


async def test_an_endless_body_takes_no_memory() -> None:
    """Faults 38: bytes go to the sink as they come, and it says when to stop."""

    async def endless(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(OK + b"\r\n")
        while True:
            writer.write(bytes(MiB))
            await writer.drain()

    class Counting:
        count = 0

        def head(self, head: ResponseHead) -> bool:
            return True

        def write(self, chunk: bytes) -> bool:
            self.count += len(chunk)
            return self.count < 200 * MiB

    sink, before = Counting(), resident_bytes()
    async with (
        open_transport() as transport,
        Scripted(endless) as origin,
        asyncio.timeout(20),
    ):
        with pytest.raises(TransferError) as failed:
            await transport.exchange(Outgoing("GET", origin.url), sink)

    assert failed.value.fault is Fault.STOPPED
    assert resident_bytes() - before < 32 * MiB
