"""Between processes and Redis: cuts, parts, delays, and loses answers on request."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Self

_MOST = 256 * 1024


class Relay:
    """Passes bytes on between a socket of its own and that of the server."""

    def __init__(self, socket: Path, server: Path) -> None:
        self.url = f"unix://{socket}"
        self._socket, self._server = socket, server
        self._tasks: set[asyncio.Task[None]] = set()
        self._marks: list[bytes] = []
        self._whole = _open()
        self.lost = 0
        """Answers lost so far."""
        self.latency = 0.0
        """Seconds that all bytes are under way, each way."""
        self.rate = 0
        """Bytes a second of a connection, each way; 0 means as fast as can be."""

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_unix_server(self._serve, self._socket)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._listener.wait_closed()

    def cut(self) -> None:
        """Break every connection now."""
        for task in self._tasks:
            task.cancel()

    def part(self) -> None:
        """From now on nothing arrives on either side; nobody is told."""
        self._whole.clear()

    def heal(self) -> None:
        """Let what was said meanwhile arrive, also from one that has given up."""
        self._whole.set()

    def forsake(self) -> None:
        """Leave every connection half open: nothing arrives any more on those."""
        self._whole.clear()
        self._whole = _open()

    def lose(self, mark: str) -> None:
        """Lose the answer to the next command that contains ``mark``."""
        self._marks.append(mark.encode())

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._arrival(whole := self._whole)
            upstream = await asyncio.open_unix_connection(self._server)
            try:
                await self._pass_on(whole, reader, writer, *upstream)
            finally:
                upstream[1].transport.abort()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _pass_on(
        self,
        whole: asyncio.Event,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answers: asyncio.StreamReader,
        commands: asyncio.StreamWriter,
    ) -> None:
        muted = False

        async def forth() -> None:
            nonlocal muted
            while data := await reader.read(_MOST):
                for mark in self._marks:
                    if mark in data:
                        self._marks.remove(mark)
                        muted = True
                        break
                await self._arrival(whole, len(data))
                commands.write(data)
                await commands.drain()

        async def back() -> None:
            while (data := await answers.read(_MOST)) and not muted:
                await self._arrival(whole, len(data))
                writer.write(data)
                await writer.drain()
            self.lost += muted

        both = [asyncio.create_task(forth()), asyncio.create_task(back())]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(*both, return_exceptions=True)

    async def _arrival(self, whole: asyncio.Event, size: int = 0) -> None:
        """Return when so many bytes that were sent now have arrived."""
        await asyncio.sleep(self.latency + (size / self.rate if self.rate else 0.0))
        await whole.wait()


def _open() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event
