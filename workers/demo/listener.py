"""A server on loopback that ends every connection itself, however early it is left.

``asyncio.start_server`` alone loses a connection whose task never took its first step:
it is closed by nobody, and heard of when the event loop is long gone.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Listener:
    """Calls ``serve`` for each connection, and closes the connection after it.

    A peer that goes away ends its ``serve`` with an OSError or IncompleteReadError,
    which are expected here.
    """

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def start(
        self, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
    ) -> int:
        """Listen on a free port, and return it."""
        self._server = await asyncio.start_server(self._accept, host, 0, ssl=tls)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def aclose(self) -> None:
        """Cancel what is being served; return when all of it has ended."""
        self._closed = True
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if self._closed:  # its handshake took longer than the server was there
            writer.transport.abort()
            return
        task = asyncio.create_task(self._carry(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: writer.transport.abort())

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            await self._serve(reader, writer)
            writer.close()
            await writer.wait_closed()
