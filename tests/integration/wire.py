"""The two ends of an exchange in tests: an origin that plays scripts, and a sink."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self

import pytest

from schemas.addresses import AddressPolicy
from schemas.records import ResponseHead
from workers.demo.listener import Listener
from workers.transport import Outgoing, TransferError, Transport, TransportLimits

LOOPBACK = AddressPolicy.parse("loopback")
Play = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Scripted:
    """Plays a script to each connection; the last one to all that follow.

    Bytes are a script too: read a request, send them, and, ``keep`` not given, close.
    """

    def __init__(
        self,
        *scripts: bytes | Play,
        keep: bool = False,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.heads: list[bytes] = []
        """The request heads that scripts of bytes have read."""
        self.connections = 0
        self.gone = asyncio.Event()
        """Set when a client has closed its connection."""
        self._scripts = scripts
        self._host = host
        self._tls = tls
        self._keep = keep
        self._listener = Listener(self._serve)

    async def __aenter__(self) -> Self:
        self.port = await self._listener.start(host=self._host, tls=self._tls)
        scheme = "https" if self._tls else "http"
        self.url = f"{scheme}://{self._host}:{self.port}/"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._listener.aclose()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        script = self._scripts[min(self.connections, len(self._scripts) - 1)]
        self.connections += 1
        try:
            if isinstance(script, bytes):
                await self._send(script, reader, writer)
            else:
                await script(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            self.gone.set()

    async def _send(
        self, data: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(data)
            await writer.drain()
            if not self._keep:
                return


class Taken:
    """A sink that keeps what it takes, and refuses or raises where told to."""

    def __init__(
        self,
        *,
        wanted: bool = True,
        stop_after: int | None = None,
        head_error: BaseException | None = None,
        write_error: BaseException | None = None,
    ) -> None:
        self.heads: list[ResponseHead] = []
        self.body = bytearray()
        self.began = asyncio.Event()
        """Set with the first bytes of the body."""
        self._wanted = wanted
        self._stop_after = stop_after
        self._head_error = head_error
        self._write_error = write_error

    def head(self, head: ResponseHead) -> bool:
        """Keep the head."""
        self.heads.append(head)
        if self._head_error is not None:
            raise self._head_error
        return self._wanted

    def write(self, chunk: bytes) -> bool:
        """Keep bytes of the body."""
        if self._write_error is not None:
            raise self._write_error
        self.body += chunk
        self.began.set()
        return self._stop_after is None or len(self.body) < self._stop_after


def open_transport(**limits: float) -> Transport:
    """A transport that may reach loopback, with some limits of its own."""
    return Transport(TransportLimits(**limits), LOOPBACK)  # type: ignore[arg-type]


async def get(transport: Transport, url: str, *headers: tuple[str, str]) -> Taken:
    """Exchange a GET and return what came back, within a few seconds."""
    taken = Taken()
    async with asyncio.timeout(10):
        await transport.exchange(Outgoing("GET", url, headers), taken)
    return taken


async def fault_of(transport: Transport, script: bytes | Play) -> TransferError:
    """How an exchange with a scripted origin fails."""
    async with Scripted(script) as origin:
        with pytest.raises(TransferError) as failed:
            await get(transport, origin.url)
    return failed.value


def resident_bytes() -> int:
    """Memory that this process has in use; 0 where there is no /proc."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * 4096 if statm.exists() else 0
