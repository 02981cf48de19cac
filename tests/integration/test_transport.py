"""HTTP exchanges with origins that behave: requests, responses, connections, ends."""

from __future__ import annotations

import asyncio
import gzip
import multiprocessing
from collections.abc import AsyncIterator

import pytest

from schemas.addresses import AddressPolicy
from tests.integration.wire import Scripted, Taken, get, open_transport
from workers.demo.origin import Origin
from workers.transport import (
    Fault,
    Outgoing,
    TransferError,
    Transport,
    TransportLimits,
)

BODY = bytes(range(256)) * 4096
REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    async with open_transport() as running:
        yield running


async def test_a_response_arrives_whole_with_its_head(
    transport: Transport, origin: Origin
) -> None:
    """The head comes once, names as sent, and the URL without its fragment."""
    origin.add("/a?b=%20", BODY, etag='"v1"', headers={"X-Two": "a", "x-two": "b"})

    taken = await get(transport, origin.url("/a?b=%20#part"))

    assert taken.body == BODY
    [head] = taken.heads
    assert (head.status, head.status_text) == (200, "OK")
    assert head.url == origin.url("/a?b=%20")
    assert head.headers[-2:] == (("X-Two", "a"), ("x-two", "b"))
    assert head.get("x-TWO") == "a, b"


async def test_an_empty_body_ends(transport: Transport, origin: Origin) -> None:
    origin.add("/", b"")

    taken = await get(transport, origin.url("/"))

    assert len(taken.heads) == 1
    assert taken.body == b""


async def test_a_request_says_who_asks_and_asks_for_plain_bytes(
    transport: Transport, origin: Origin
) -> None:
    """BF-REC-04, BF-REC-05."""
    origin.add("/", b"")

    await get(transport, origin.url("/"), ("X-Empty", ""), ("X-Umlaut", "ü"))
    await get(transport, origin.url("/"), ("user-agent", "Ours/1"))

    plain, named = (seen.headers for seen in origin.log)
    assert plain["user-agent"].startswith("Background-Fetch/")
    assert plain["accept-encoding"] == "identity"
    assert (plain["x-empty"], plain["x-umlaut"]) == ("", "ü")
    assert named["user-agent"] == "Ours/1"
    # A kept handle does not repeat the headers of the exchange before.
    assert "x-empty" not in named


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\n", "a\0b", "\u20ac"])
async def test_a_header_that_cannot_be_sent_is_refused(
    transport: Transport, origin: Origin, value: str
) -> None:
    with pytest.raises(TransferError) as failed:
        await get(transport, origin.url("/"), ("X", value))

    assert failed.value.fault is Fault.MALFORMED
    assert origin.log == []


async def test_a_coded_body_is_handed_over_as_sent(
    transport: Transport, origin: Origin
) -> None:
    coded = gzip.compress(BODY)
    origin.add("/", coded, headers={"Content-Encoding": "gzip"})

    assert (await get(transport, origin.url("/"))).body == coded


async def test_connections_are_kept_for_the_next_exchange(
    transport: Transport, origin: Origin
) -> None:
    origin.add("/", BODY)

    for _ in range(3):
        await get(transport, origin.url("/"))

    assert origin.connections == 1


async def test_many_exchanges_run_at_a_time_up_to_the_limit(origin: Origin) -> None:
    """And who waits for a turn is not told that the origin is out of reach."""
    hold = asyncio.Event()
    origin.add("/", BODY, hold=hold)
    async with open_transport(max_connections_per_host=2) as transport:
        first, second = Taken(), Taken()
        tasks = [
            asyncio.create_task(transport.exchange(outgoing, sink))
            for outgoing in [Outgoing("GET", origin.url("/"))]
            for sink in (first, second, Taken(), Taken())
        ]
        async with asyncio.timeout(10):
            await asyncio.gather(first.began.wait(), second.began.wait())
            seen_while_full = len(origin.log)
            hold.set()
            await asyncio.gather(*tasks)

    assert seen_while_full == 2
    assert len(origin.log) == 4
    assert origin.connections == 2


async def test_a_cancelled_waiter_gives_up_its_turn(origin: Origin) -> None:
    hold = asyncio.Event()
    origin.add("/held", BODY, hold=hold)
    origin.add("/", b"ok")
    async with open_transport(connections=1) as transport:
        first = Taken()
        held = asyncio.create_task(
            transport.exchange(Outgoing("GET", origin.url("/held")), first)
        )
        await first.began.wait()
        waiting = [
            asyncio.create_task(get(transport, origin.url("/"))) for _ in range(3)
        ]
        await asyncio.sleep(0)

        waiting[0].cancel()
        hold.set()
        await held

        with pytest.raises(asyncio.CancelledError):
            await waiting[0]
        assert [(await task).body for task in waiting[1:]] == [b"ok", b"ok"]


async def test_a_head_request_has_no_body(transport: Transport, origin: Origin) -> None:
    origin.add("/", BODY)
    taken = Taken()

    await transport.exchange(Outgoing("HEAD", origin.url("/")), taken)
    after = await get(transport, origin.url("/"))

    assert taken.heads[0].get("Content-Length") == str(len(BODY))
    assert taken.body == b""
    assert after.body == BODY
    assert [seen.method for seen in origin.log] == ["HEAD", "GET"]


async def test_the_environment_names_no_proxy(
    origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faults 34."""
    for name in ("http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1/")
    origin.add("/", b"ok")

    async with open_transport() as transport:
        assert (await get(transport, origin.url("/"))).body == b"ok"


async def test_a_refused_connection_is_offline() -> None:
    """Faults 35."""
    async with Scripted(b"") as gone:
        pass
    async with Transport(TransportLimits(), AddressPolicy.parse("loopback")) as never:
        with pytest.raises(TransferError) as failed:
            await get(never, gone.url)

    assert failed.value.fault is Fault.OFFLINE


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
async def test_a_transport_made_after_a_fork_works(
    transport: Transport, origin: Origin
) -> None:
    """Faults row 75, R1: stock RQ workers fork for each job, after threads and libcurl.

    What the parent has is not used in the child, which makes its own.
    """
    origin.add("/", b"ok")
    await get(transport, origin.url("/"))
    child = multiprocessing.get_context("fork").Process(
        target=get_in_child, args=(origin.url("/"),)
    )

    child.start()
    await asyncio.to_thread(child.join, 20)

    assert child.exitcode == 0
    assert (await get(transport, origin.url("/"))).body == b"ok"


def get_in_child(url: str) -> None:
    async def run() -> None:
        async with open_transport() as transport:
            assert (await get(transport, url)).body == b"ok"

    # The child has inherited the mark of a running loop.
    asyncio._set_running_loop(None)
    asyncio.run(run())
