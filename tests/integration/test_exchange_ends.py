"""How exchanges end that nobody wants to the last byte: cancelled, stopped, refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.integration.wire import Scripted, Taken, get, open_transport
from workers.demo.origin import Origin
from workers.transport import Fault, Outgoing, TransferError, Transport

BODY = bytes(range(256)) * 4096
REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    async with open_transport() as running:
        yield running


async def test_a_cancelled_exchange_ends_at_once_and_harms_no_other(
    transport: Transport,
) -> None:
    async def for_ever(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\nbegin")
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(1)

    taken = Taken()
    async with Scripted(for_ever, REPLY) as origin:
        task = asyncio.create_task(
            transport.exchange(Outgoing("GET", origin.url), taken)
        )
        await taken.began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(5):
            await origin.gone.wait()

        assert (await get(transport, origin.url)).body == b"ok"


async def test_closing_the_transport_stops_what_is_under_way(origin: Origin) -> None:
    origin.add("/", BODY, hold=asyncio.Event())
    transport, taken = open_transport(), Taken()
    task = asyncio.create_task(
        transport.exchange(Outgoing("GET", origin.url("/")), taken)
    )
    await taken.began.wait()

    await transport.aclose()
    await transport.aclose()

    for late in (task, get(transport, origin.url("/"))):
        with pytest.raises(TransferError) as failed:
            await late
        assert failed.value.fault is Fault.STOPPED


async def test_a_sink_that_has_enough_stops_the_exchange(
    transport: Transport, origin: Origin
) -> None:
    origin.add("/", BODY)
    taken = Taken(stop_after=1)

    with pytest.raises(TransferError) as failed:
        await transport.exchange(Outgoing("GET", origin.url("/")), taken)

    assert failed.value.fault is Fault.STOPPED
    assert len(taken.body) < len(BODY)


@pytest.mark.parametrize(("size", "connections"), [(500, 1), (len(BODY), 2)])
async def test_an_unwanted_body_is_not_handed_over(
    transport: Transport, origin: Origin, size: int, connections: int
) -> None:
    """A small one is read away, so that the connection lives (faults 31)."""
    origin.add("/", b"x" * size, status=302)
    taken = Taken(wanted=False)

    for _ in range(2):
        await transport.exchange(Outgoing("GET", origin.url("/")), taken)

    assert [head.status for head in taken.heads] == [302, 302]
    assert taken.body == b""
    assert origin.connections == connections


@pytest.mark.parametrize("error", [ValueError("x"), StopIteration(), SystemExit(7)])
@pytest.mark.parametrize("where", ["head_error", "write_error"])
async def test_what_a_sink_raises_is_raised_again_and_printed_nowhere(
    transport: Transport,
    origin: Origin,
    capfd: pytest.CaptureFixture[str],
    where: str,
    error: BaseException,
) -> None:
    origin.add("/", BODY)
    taken = Taken(**{where: error})  # type: ignore[arg-type]

    caught: BaseException | None = None
    try:
        await transport.exchange(Outgoing("GET", origin.url("/")), taken)
    except BaseException as raised:
        caught = raised.__cause__ if isinstance(raised, RuntimeError) else raised

    assert caught is error
    assert (await get(transport, origin.url("/"))).body == BODY
    assert capfd.readouterr() == ("", "")
