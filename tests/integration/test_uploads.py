"""Requests with bodies, which are sent once (faults 63; BF-REC-07, BF-REC-11)."""

from __future__ import annotations

import asyncio

import pytest

from tests.integration.wire import Scripted, Taken, get, open_transport
from workers.demo.origin import Origin
from workers.transport import Fault, Outgoing, TransferError

REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Bytes:
    """A request body that may announce more than it has."""

    def __init__(self, content: bytes, length: int | None = None) -> None:
        self.length = len(content) if length is None else length
        self._content = content

    def read(self, size: int) -> bytes:
        """Give the next bytes."""
        chunk, self._content = self._content[:size], self._content[size:]
        return chunk


class Broken:
    """A request body that cannot be read."""

    length = 5

    def read(self, size: int) -> bytes:
        """Fail as a disk does."""
        raise OSError("unreadable")


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
