"""One reader of the feed, and what waits to be sent to it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping

from broker.gateway.live.news import News, Wanted

MOST_WAITING = 4096
"""Messages that wait for one reader; one that is slower than that has to resume."""
CHUNK = 64 * 1024
"""Bytes that are sent at once: what waits behind them can still be replaced."""


class Reader:
    """A bounded queue in which a newer state of a fetch replaces the older one.

    A slow reader so holds back nobody, and still hears the last state of each fetch.
    """

    __slots__ = (
        "_awake",
        "_sign",
        "_waiting",
        "client",
        "ending",
        "positions",
        "since",
        "wanted",
    )

    def __init__(self, wanted: Wanted, process: str) -> None:
        self.wanted = wanted
        self.client = f"{process}.{secrets.token_hex(8)}"
        """Its name as a client: a window for its own click is told to it alone."""
        self.ending = ""
        """Why it is to end; empty while it goes on."""
        self.since = ""
        """The id from which its news begin; what was before is not told by itself."""
        self.positions: Mapping[str, str] = {}
        """Of who reads all scopes, the last entry of each before that."""
        self._waiting: dict[str, News] = {}
        self._sign = b""
        self._awake: asyncio.Future[None] | None = None

    def offer(self, news: News) -> bool:
        """Let the reader know, unless it did not ask for this."""
        if self.ending or news.type not in self.wanted.types:
            return False
        if len(self._waiting) >= MOST_WAITING and news.key not in self._waiting:
            self._waiting.clear()
            self.end("too slow")
            return False
        self._waiting[news.key] = news
        self._wake()
        return True

    def sign(self, sign: bytes) -> None:
        """Show a sign of life if there is nothing else to send."""
        if not self._waiting:
            self._sign = sign
            self._wake()

    def end(self, reason: str) -> None:
        """Send what waits, and then no more."""
        self.ending = self.ending or reason
        self._wake()

    async def next(self) -> bytes:
        """Return the next bytes to send; empty at the end."""
        while True:
            if self._waiting:
                self._sign = b""
                if chunk := self._chunk():
                    return chunk
            elif self.ending:
                return b""
            elif self._sign:
                sign, self._sign = self._sign, b""
                return sign
            else:
                self._awake = asyncio.get_running_loop().create_future()
                await self._awake

    def _chunk(self) -> bytes:
        parts: list[bytes] = []
        size = 0
        while self._waiting and size < CHUNK:
            news = self._waiting.pop(next(iter(self._waiting)))
            parts.append(news.encoded())
            size += len(parts[-1])
        # Most often it is one, the same bytes for all readers.
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _wake(self) -> None:
        if self._awake is not None and not self._awake.done():
            self._awake.set_result(None)
