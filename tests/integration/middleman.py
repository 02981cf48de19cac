"""A small scripted proxy: CONNECT, absolute-form requests, and SOCKS 5."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import Self
from urllib.parse import urlsplit

from workers.demo.listener import Listener


class Middleman:
    """Passes on what it is asked for, and notes it.

    ``hosts`` says where a name or address, ``host:port``, really is: a port of
    127.0.0.1. What is not in it is refused with ``refusal``, a status or SOCKS reply.
    """

    def __init__(
        self,
        hosts: Mapping[str, int],
        *,
        refusal: int = 502,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.asked: list[str] = []
        """``CONNECT host:port``, ``GET url`` or ``SOCKS host:port``, one a request."""
        self.heads: list[bytes] = []
        """What came before the first tunnel or answer, as it was sent."""
        self._hosts = hosts
        self._refusal = refusal
        self._tls = tls
        self._listener = Listener(self._serve)

    async def __aenter__(self) -> Self:
        self.port = await self._listener.start(tls=self._tls)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._listener.aclose()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        first = await reader.readexactly(1)
        if first == b"\x05":
            await self._socks(reader, writer)
        else:
            await self._http(first, reader, writer)

    async def _http(
        self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        head = first + await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        method, target, _ = head.decode("latin-1").split("\r\n")[0].split(" ")
        self.asked.append(f"{method} {target}")
        connect = method == "CONNECT"
        port = self._hosts.get(target if connect else urlsplit(target).netloc)
        if port is None:
            answer = f"HTTP/1.1 {self._refusal} No\r\nContent-Length: 3\r\n\r\nno\n"
            writer.write(answer.encode())
            await writer.drain()
            return
        upstream = await asyncio.open_connection("127.0.0.1", port)
        if connect:
            writer.write(b"HTTP/1.1 200 Here you are\r\nX-Proxy: yes\r\n\r\n")
        else:
            path = urlsplit(target).path.encode()
            upstream[1].write(head.replace(target.encode(), path, 1))
        await self._pass_on(reader, writer, *upstream)

    async def _socks(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        count = (await reader.readexactly(1))[0]
        methods = await reader.readexactly(count)
        if 2 in methods:
            writer.write(b"\x05\x02")
            _, size = await reader.readexactly(2)
            username = await reader.readexactly(size)
            [size] = await reader.readexactly(1)
            password = await reader.readexactly(size)
            self.heads.append(username + b":" + password)
            writer.write(b"\x01\x00")
        else:
            writer.write(b"\x05\x00")
        _, _, _, kind = await reader.readexactly(4)
        if kind == 1:
            host = ".".join(map(str, await reader.readexactly(4)))
        else:
            [size] = await reader.readexactly(1)
            host = (await reader.readexactly(size)).decode()
        target = f"{host}:{int.from_bytes(await reader.readexactly(2), 'big')}"
        self.asked.append(f"SOCKS {target}")
        port = self._hosts.get(target)
        reply = self._refusal if port is None else 0
        writer.write(bytes([5, reply, 0, 1, 0, 0, 0, 0, 0, 0]))
        await writer.drain()
        if port is not None:
            upstream = await asyncio.open_connection("127.0.0.1", port)
            await self._pass_on(reader, writer, *upstream)

    async def _pass_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        from_origin: asyncio.StreamReader,
        to_origin: asyncio.StreamWriter,
    ) -> None:
        there = asyncio.create_task(_pour(reader, to_origin))
        try:
            await _pour(from_origin, writer)
        finally:
            to_origin.transport.abort()  # first: the next line may be cancelled
            there.cancel()
            await asyncio.gather(there, return_exceptions=True)


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
