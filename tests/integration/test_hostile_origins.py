"""Exchanges with origins that break the protocol, or the connection (faults 39 to 47).

Each outcome is that of one exchange: whether to retry is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator

import pytest

from tests.integration.wire import (
    Play,
    Scripted,
    fault_of,
    get,
    open_transport,
    resident_bytes,
)
from workers.transport import Fault, Transport

OK = b"HTTP/1.1 200 OK\r\n"
FIVE = b"Content-Length: 5\r\n\r\nhello"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
MiB = 1024 * 1024


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    async with open_transport(connect_timeout=2.0) as running:
        yield running


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(OK + b"X: a\0b\r\n" + FIVE, id="NUL in a header"),
        pytest.param(OK + b"X: a\x01b\r\n" + FIVE, id="control byte in a header"),
        pytest.param(OK + b"X: a\rb\r\n" + FIVE, id="bare CR in a header"),
        pytest.param(OK + b"Xab\r\n" + FIVE, id="no colon"),
        pytest.param(OK + b"X y: a\r\n" + FIVE, id="space in a name"),
        pytest.param(OK + b"Content-Length : 5\r\n\r\nhello", id="space before colon"),
        pytest.param(b"HTTP/1.1 200 O\x01K\r\n" + FIVE, id="control byte in phrase"),
        *(
            pytest.param(OK + b"Content-Length: " + value + b"\r\n\r\nhello", id=name)
            for name, value in {
                "negative length": b"-1",
                "length with a sign": b"+5",
                "length and letters": b"5abc",
                "length with a space": b"5 5",
                "hexadecimal length": b"0x5",
                "huge length": b"10000000000000000000000",
                "length above 2**63": b"9223372036854775808",
                "two lengths in a list": b"5, 6",
                "no length at all": b"",
                "two length headers": b"5\r\nContent-Length: 6",
            }.items()
        ),
        *(
            pytest.param(OK + b"Transfer-Encoding: " + value + b"\r\n\r\n", id=name)
            for name, value in {
                "unknown coding": b"evil",
                "gzip coding": b"gzip, chunked",
                "chunked twice": b"chunked, chunked",
                "chunked in two": b"chunked\r\nTransfer-Encoding: chunked",
                "chunked not last": b"chunked, identity",
            }.items()
        ),
        pytest.param(CHUNKED + b"zz\r\nhello\r\n0\r\n\r\n", id="bad chunk size"),
        pytest.param(CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n", id="negative chunk size"),
        pytest.param(CHUNKED + b"f" * 17 + b"\r\nhello\r\n", id="chunk size overflow"),
        pytest.param(CHUNKED + b"5\r\nhelloX\r\n0\r\n\r\n", id="no CRLF after chunk"),
        pytest.param(b"HTTP/1.1 999 Odd\r\n" + FIVE, id="status 999"),
        pytest.param(b"HTTP/1.1 600 Odd\r\n" + FIVE, id="status 600"),
        pytest.param(b"HTTP/1.1 099 Odd\r\n" + FIVE, id="status 099"),
        pytest.param(b"HTTP/1.1 20 Odd\r\n" + FIVE, id="status of two digits"),
        pytest.param(b"HTTP/1.1 -200 Odd\r\n" + FIVE, id="negative status"),
        pytest.param(b"HTTP/1.1 101 Go\r\nUpgrade: x\r\n\r\nhello", id="101"),
        pytest.param(b"HTTP/9.9 200 OK\r\n" + FIVE, id="HTTP/9.9"),
        pytest.param(b"HTTP/2 200 OK\r\n" + FIVE, id="HTTP/2 in plain text"),
        pytest.param(b"ICY 200 OK\r\n" + FIVE, id="ICY"),
        pytest.param(b"hello", id="HTTP/0.9"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00", id="TLS bytes"),
    ],
)
async def test_what_is_not_unambiguously_http_is_malformed(
    transport: Transport, answer: bytes
) -> None:
    """Faults 40, 41, 44, 45; weird matrix rows cl_*, te_*, chunk_*, hdr_*, status_*."""
    assert (await fault_of(transport, answer)).fault is Fault.MALFORMED


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
        (OK + b"Content-Length: 5, 5\r\n\r\nhello", b"hello"),
        (OK + b"\r\nhello", b"hello"),
        (OK + b"Transfer-Encoding: identity\r\n\r\nhello", b"hello"),
        (b"HTTP/1.1 200\r\n" + FIVE, b"hello"),
        (b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", b"hello"),
        (OK + b"X: a\r\n  b\r\n" + FIVE, b"hello"),
        (OK + b"X: \xff\x85\r\n" + FIVE, b"hello"),
        (b"HTTP/1.1 103 Hints\r\nLink: <x>\r\n\r\n" + OK + FIVE, b"hello"),
        (CHUNKED + b"5;x=y\r\nhello\r\n0\r\nT: u\r\n\r\n", b"hello"),
        (b"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\nhello", b""),
        (b"HTTP/1.1 304 Same\r\nContent-Length: 5\r\n\r\nhello", b""),
    ],
)
async def test_what_is_odd_but_clear_is_taken(
    transport: Transport, answer: bytes, body: bytes
) -> None:
    """Faults 41, 47: equal lengths agree, and a body that may not be is not there."""
    async with Scripted(answer) as origin:
        taken = await get(transport, origin.url)

    assert taken.body == body
    assert len(taken.heads) == 1


async def test_chunks_win_over_a_length_and_the_connection_is_not_used_again(
    transport: Transport,
) -> None:
    """Faults 43."""
    both = OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with Scripted(both + b"5\r\nhello\r\n0\r\n\r\n", keep=True) as origin:
        bodies = [(await get(transport, origin.url)).body for _ in range(2)]

        assert bodies == [b"hello", b"hello"]
        assert origin.connections == 2


async def test_a_connection_with_bytes_left_over_is_not_used_again(
    transport: Transport,
) -> None:
    """Faults 47."""
    async with Scripted(OK + FIVE + b"HTTP/1.1 200 Evil\r\n", keep=True) as origin:
        phrases = [
            (await get(transport, origin.url)).heads[0].status_text for _ in range(2)
        ]

        assert phrases == ["OK", "OK"]
        assert origin.connections == 2


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send half of an answer and reset the connection."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(OK + b"Content-Length: 9\r\n\r\nhell")
    await writer.drain()
    linger = struct.pack("ii", 1, 0)
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-", id="half a head"),
        pytest.param(OK + b"Content-Length: 50\r\n\r\nhello", id="half a body"),
        pytest.param(
            OK + b"Content-Length: 9223372036854775807\r\n\r\nx", id="2**63-1"
        ),
        pytest.param(CHUNKED + b"50\r\nhello", id="half a chunk"),
        pytest.param(CHUNKED + b"5\r\nhello\r\n", id="no last chunk"),
        pytest.param(CHUNKED + b"5\r\nhello\r\n0\r\n", id="no end of trailers"),
        pytest.param(reset, id="reset"),
    ],
)
async def test_a_connection_that_breaks_is_the_networks_fault(
    transport: Transport, script: bytes | Play
) -> None:
    """BF-REC-25, Faults 42, 44."""
    assert (await fault_of(transport, script)).fault is Fault.NETWORK


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(OK + b"X: " + b"a" * MiB + b"\r\n" + FIVE, id="line of 1 MiB"),
        pytest.param(OK + b"X: aaaaaaaaaaaaaaaa\r\n" * 10_000 + FIVE, id="many lines"),
        pytest.param(OK + b"X: a\r\n" * 6000 + FIVE, id="many short lines"),
        pytest.param(OK + b"X: " + b"a" * 70_000 + b"\r\n" + FIVE, id="above 64 KiB"),
        pytest.param(
            CHUNKED + b"0\r\n" + b"T: u\r\n" * 50_000 + b"\r\n", id="many trailers"
        ),
        pytest.param(b"HTTP/1.1 100 Go\r\n\r\n" * 20_000 + OK + FIVE, id="1xx flood"),
        pytest.param(b"HTTP/1.1 103 Hi\r\n\r\n" * 4000 + OK + FIVE, id="1xx, 64 KiB"),
    ],
)
async def test_a_head_that_is_too_large_is_given_up(
    transport: Transport, answer: bytes
) -> None:
    """Faults 39, with no more memory than libcurl's own bound of 300 KiB."""
    before = resident_bytes()

    error = await fault_of(transport, answer)

    assert error.fault is Fault.LIMIT
    assert resident_bytes() - before < 16 * MiB
