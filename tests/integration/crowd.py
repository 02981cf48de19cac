"""An origin for tests of how much it is asked at a time."""

from __future__ import annotations

import asyncio
from typing import Self

from workers.demo.listener import Listener

Reply = tuple[int, dict[str, str]]


class Crowd:
    """An origin that counts the requests that are with it at a time.

    It answers the first ones as ``replies`` say, and the others unless it is shut.
    """

    def __init__(self, *replies: Reply) -> None:
        self.paths: list[str] = []
        self.began: list[float] = []
        self.now = self.most = 0
        self.changed = asyncio.Condition()
        self._replies = list(replies)
        self._is_shut = False
        self._held: list[asyncio.Event] = []
        self._listener = Listener(self._serve)

    async def __aenter__(self) -> Self:
        self.name = f"http://127.0.0.1:{await self._listener.start()}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._listener.aclose()

    def urls(self, name: str, count: int) -> list[str]:
        """So many addresses."""
        return [f"{self.name}/{name}{at}" for at in range(count)]

    def shut(self) -> None:
        """Hold every request from now on."""
        self._is_shut = True

    def open(self) -> None:
        """Answer every request, the held ones too."""
        self._is_shut = False
        self.let(len(self._held))

    def let(self, count: int) -> None:
        """Answer so many of the requests that are held."""
        for held in self._held[:count]:
            held.set()
        del self._held[:count]

    async def reached(self, count: int) -> None:
        """Wait until so many requests are with it."""
        async with asyncio.timeout(60), self.changed:
            await self.changed.wait_for(lambda: self.now >= count)

    async def asked(self, count: int) -> None:
        """Wait until it has had so many requests."""
        async with asyncio.timeout(60), self.changed:
            await self.changed.wait_for(lambda: len(self.paths) >= count)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            await self._answer(head.split(b" ", 2)[1].decode(), writer)

    async def _answer(self, path: str, writer: asyncio.StreamWriter) -> None:
        self.paths.append(path)
        self.began.append(asyncio.get_running_loop().time())
        status, headers = 200, dict[str, str]()
        await self._count(1)
        if self._replies:
            status, headers = self._replies.pop(0)
        elif self._is_shut:
            self._held.append(asyncio.Event())
            await self._held[-1].wait()
        else:
            await asyncio.sleep(0.002)
        await self._count(-1)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(
            f"HTTP/1.1 {status} X\r\nContent-Length: 2\r\n{lines}\r\nok".encode()
        )
        await writer.drain()

    async def _count(self, by: int) -> None:
        async with self.changed:
            self.now += by
            self.most = max(self.most, self.now)
            self.changed.notify_all()
