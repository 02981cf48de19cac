"""The Redis of a torture: killed, started again, and made to forget."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import anyio.to_thread
import redis

from broker.embedded import EmbeddedServer
from schemas.errors import StartError

_EXEC = b"*1\r\n$4\r\nEXEC\r\n"
_LOG = "appendonlydir/appendonly.aof.1.incr.aof"


class Database:
    """One server and its append-only file, from which each start reads."""

    def __init__(self, directory: Path, fsync: str = "no") -> None:
        """``fsync``: what ``appendfsync`` says, ``no`` keeps what a crash() keeps."""
        self._directory = directory
        self._fsync = fsync
        self._server = self._start()
        self._kept = 0
        self.whole = asyncio.Lock()
        """Held while the server is away, and by whoever must not meet that."""
        self.crashes = 0
        self.lost: list[Path] = []
        """What crashes have cut off the append-only file, in files of their own."""

    @property
    def url(self) -> str:
        """Its address, the same after each start."""
        return self._server.url

    @property
    def socket(self) -> Path:
        """Its socket."""
        return self._directory / "server.sock"

    def keep(self) -> None:
        """Never forget what was written until now."""
        self._kept = max(self._kept, self._length())

    async def crash(self, lost: int = 0) -> None:
        """Kill the server and start it again, without its last ``lost`` bytes."""
        async with self.whole:
            os.kill(self._server.pid, signal.SIGKILL)
            await anyio.to_thread.run_sync(self._server.stop)
            if lost:
                self._cut(self._end_before(self._length() - lost))
            self._server = await anyio.to_thread.run_sync(self._start)
            self.crashes += 1

    async def forget(self, seconds: float) -> None:
        """Crash, and lose what was written in so many seconds before."""
        before = self._length()
        await asyncio.sleep(seconds)
        await self.crash(self._length() - before if seconds else 0)

    def destroy_group(self, stream: str, group: str) -> None:
        """Lose a consumer group of a stream."""
        with redis.Redis.from_url(self.url) as client:
            client.xgroup_destroy(stream, group)

    def close(self) -> None:
        """End it."""
        self._server.stop()

    def _cut(self, place: int) -> None:
        """Put what is behind ``place`` into a file of its own."""
        tail = self._directory / f"lost-{len(self.lost)}.aof"
        with self.log.open("rb") as log:
            log.seek(place)
            tail.write_bytes(log.read())
        self.lost.append(tail)
        os.truncate(self.log, place)

    def _end_before(self, place: int) -> int:
        """Return where the last transaction up to ``place`` ends, or what is kept.

        One that was cut in two is a matter of its own: Redis 7.0 leaves its half in the
        file, and carries it out at the next start but one.
        """
        with self.log.open("rb") as log:
            log.seek(self._kept)
            found = log.read(max(0, place - self._kept)).rfind(_EXEC)
        return self._kept if found < 0 else self._kept + found + len(_EXEC)

    def _start(self) -> EmbeddedServer:
        server = EmbeddedServer.start(self._directory, die_with_parent=True)
        with redis.Redis.from_url(server.url) as client:
            # Written at once, if not to the medium: what crash() keeps is kept.
            client.config_set("appendfsync", self._fsync)
            # One file for good, so that a place in it stays one.
            client.config_set("auto-aof-rewrite-percentage", 0)
        return server

    @property
    def log(self) -> Path:
        """Its append-only file."""
        path = self._directory / _LOG
        if not path.exists():
            raise StartError(f"no append-only file at {path}")
        return path

    def _length(self) -> int:
        return self.log.stat().st_size
