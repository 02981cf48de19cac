"""Requests with bodies, which are sent once (faults 63; BF-REC-07, BF-REC-11)."""

from __future__ import annotations

import asyncio

import pytest

from tests.integration.wire import Play, Scripted, Taken, get, open_transport
from workers.demo.origin import Origin
from workers.transport import Fault, Outgoing, TransferError

REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Bytes:
    """A request body that may announce more than it has."""

    def __init__(self, content: bytes, length: int | None = None) -> None:
        self.length = len(content) if length is None else length
        self._content = content
        self._at = 0

    def read(self, size: int) -> bytes:
        """Give the next bytes."""
        chunk = self._content[self._at : self._at + size]
        self._at += len(chunk)
        return chunk

    def rewind(self) -> None:
        """Begin again."""
        self._at = 0


class Broken:
    """A request body that cannot be read."""

    length = 5

    def read(self, size: int) -> bytes:
        """Fail as a disk does."""
        raise OSError("unreadable")

    def rewind(self) -> None:
        """Begin again."""


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "QUERY"])
async def test_a_body_goes_out_whole_and_its_progress_is_told(method: str) -> None:
    content = bytes(range(256)) * 4096
    sent: list[int] = []
    async with Origin() as origin, open_transport() as transport:
        origin.add("/", b"thanks")
        taken = Taken()
        headers = (("Content-Type", "a/b"),)

        await transport.exchange(
            Outgoing(method, origin.url("/"), headers, Bytes(content)),
            taken,
            uploaded=sent.append,
        )

    [seen] = origin.log
    assert (seen.method, seen.body) == (method, content)
    assert seen.headers["content-type"] == "a/b"
    assert seen.headers["content-length"] == str(len(content))
    assert not {"expect", "transfer-encoding"} & seen.headers.keys()
    assert taken.body == b"thanks"
    assert sent == sorted(sent)
    assert sent[-1] == len(content)


@pytest.mark.parametrize(
    ("method", "length"), [("POST", "0"), ("PUT", "0"), ("DELETE", None)]
)
async def test_a_missing_body_is_announced_where_one_is_usual(
    method: str, length: str | None
) -> None:
    async with Origin() as origin, open_transport() as transport:
        origin.add("/", b"")

        await transport.exchange(Outgoing(method, origin.url("/")), Taken())

    [seen] = origin.log
    assert seen.method == method
    assert seen.headers.get("content-length") == length
    assert "content-type" not in seen.headers


async def test_a_post_is_not_sent_again_on_another_connection() -> None:
    """libcurl would, when a kept connection turns out to be dead."""
    requests: list[bytes] = []

    async def die_after_one(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        if requests[-1].startswith(b"POST"):
            await reader.readexactly(5)
            return
        writer.write(REPLY)
        requests.append(await reader.readuntil(b"\r\n\r\n"))

    async with Scripted(die_after_one) as origin, open_transport() as transport:
        await get(transport, origin.url)
        with pytest.raises(TransferError) as failed:
            await transport.exchange(
                Outgoing("POST", origin.url, (), Bytes(b"12345")), Taken()
            )

    assert failed.value.fault is Fault.NETWORK
    assert [request[:4] for request in requests] == [b"GET ", b"POST"]


async def test_a_get_on_a_connection_that_died_meanwhile_is_sent_again() -> None:
    async with Scripted(REPLY, REPLY) as origin, open_transport() as transport:
        bodies = [(await get(transport, origin.url)).body for _ in range(2)]

    assert bodies == [b"ok", b"ok"]


async def test_a_body_shorter_than_announced_is_an_error() -> None:
    async with Origin() as origin, open_transport() as transport:
        origin.add("/", b"")
        with pytest.raises(ValueError, match="a body of 5 bytes gave 4"):
            await transport.exchange(
                Outgoing("PUT", origin.url("/"), (), Bytes(b"1234", 5)), Taken()
            )

    assert origin.log == []


async def test_what_a_body_or_its_listener_raises_is_raised_again(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def refuse(count: int) -> None:
        raise LookupError(count)

    async with Origin() as origin, open_transport() as transport:
        with pytest.raises(OSError, match="unreadable"):
            await transport.exchange(
                Outgoing("PUT", origin.url("/"), (), Broken()), Taken()
            )
        with pytest.raises(LookupError):
            await transport.exchange(
                Outgoing("PUT", origin.url("/"), (), Bytes(b"12345")),
                Taken(),
                uploaded=refuse,
            )

    assert capfd.readouterr() == ("", "")


async def test_a_slow_upload_is_not_a_silent_origin() -> None:
    """The head is due from the last byte sent, not from the first."""

    async def sip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(16):
            await reader.readexactly(1024 * 1024)
            await asyncio.sleep(0.03)
        writer.write(REPLY)
        await writer.drain()

    taken, body = Taken(), Bytes(bytes(16 * 1024 * 1024))
    async with (
        Scripted(sip) as origin,
        open_transport(first_byte_timeout=0.3) as transport,
    ):
        await transport.exchange(Outgoing("PUT", origin.url, (), body), taken)

    assert taken.body == b"ok"


EXPECTED = 3 * 1024 * 1024


async def refuse_expectation(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Answer 417 to ``Expect``, as origins of HTTP/1.0's time do."""
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"expect: 100-continue" in head.lower():
            writer.write(b"HTTP/1.1 417 No\r\nContent-Length: 2\r\n\r\nno")
            continue
        await reader.readexactly(EXPECTED)
        writer.write(REPLY)


async def refuse_expectation_late(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Answer 417 when some of the body has come already."""
    head = await reader.readuntil(b"\r\n\r\n")
    if b"expect: 100-continue" in head.lower():
        await reader.readexactly(1000)
        writer.write(b"HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")
        await reader.read()
    else:
        await reader.readexactly(EXPECTED)
        writer.write(REPLY)
        await writer.drain()


async def ignore_expectation(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Wait for the body, and never ask for it."""
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"expect: 100-continue" in head.lower()
    await reader.readexactly(EXPECTED)
    writer.write(REPLY)
    await writer.drain()


@pytest.mark.parametrize(
    "play", [refuse_expectation, refuse_expectation_late, ignore_expectation]
)
async def test_an_origin_need_not_meet_the_expectation_of_a_large_body(
    play: Play,
) -> None:
    """RFC 9110 §10.1.1: 417 is answered with the same request without it."""
    content = bytes(range(256)) * (EXPECTED // 256)
    taken, body = Taken(), Bytes(content)
    async with Scripted(play) as origin, open_transport() as transport:
        async with asyncio.timeout(60):
            await transport.exchange(Outgoing("POST", origin.url, (), body), taken)

    assert [head.status for head in taken.heads] == [200]
    assert taken.body == b"ok"


async def test_an_answer_417_to_a_small_body_is_an_answer() -> None:
    reply = b"HTTP/1.1 417 No\r\nContent-Length: 2\r\n\r\nno"
    taken = Taken()
    async with Scripted(reply) as origin, open_transport() as transport:
        await transport.exchange(
            Outgoing("POST", origin.url, (), Bytes(b"12345")), taken
        )

    assert [head.status for head in taken.heads] == [417]
    assert taken.body == b"no"


@pytest.mark.parametrize("asked", [False, True])
async def test_an_answer_before_the_end_of_the_body_ends_the_upload(
    asked: bool,
) -> None:
    """A 413: the rest of the body is not sent."""
    done = asyncio.Event()

    async def refuse(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if asked:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await reader.readexactly(1000)
        writer.write(b"HTTP/1.1 413 Too large\r\nContent-Length: 2\r\n\r\nno")
        await writer.drain()
        await done.wait()

    sent: list[int] = []
    taken, body = Taken(), Bytes(bytes(64 * 1024 * 1024))
    async with Scripted(refuse) as origin, open_transport() as transport:
        async with asyncio.timeout(60):
            await transport.exchange(
                Outgoing("POST", origin.url, (), body), taken, uploaded=sent.append
            )
        done.set()

    assert [head.status for head in taken.heads] == [413]
    assert taken.body == b"no"
    assert bool(sent) == asked
    assert not sent or sent[-1] < body.length
