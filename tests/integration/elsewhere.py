"""A network of its own, in which every address of the world is this machine's.

A program: in a network namespace whose loopback interface has all routes, with a name
server of its own, it fetches what it is asked for and prints what became of it, as one
JSON object. A listener at every address tells which of them were dialled.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import defaultdict
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

from broker.settings import Settings
from broker.store import Durability
from tests.integration.resolver import (
    NXDOMAIN,
    SERVFAIL,
    TXT,
    A,
    Record,
    Resolver,
    Script,
    addresses,
    alias,
)
from tests.integration.trial import Trial, trials

PORT = 8080
PUBLIC = "8.8.8.8"
REPLY = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
ANSWERED: dict[str, Script] = {
    "public.test": addresses(PUBLIC),
    "mixed.test": addresses(PUBLIC, "10.0.0.1"),
    "both.test": addresses(PUBLIC, "fd00::1"),
    "alias.test": alias("metadata.test", "169.254.169.254"),
    "many.test": addresses(*(f"10.0.{n // 250}.{n % 250}" for n in range(500))),
}
UNANSWERED: dict[str, Script] = {
    "loop.test": alias("loop.test"),
    "text.test": lambda _count, _kind: [Record(TXT, b"\xff" * 60_000)],
    "servfail.test": lambda _count, _kind: SERVFAIL,
    "missing.test": lambda _count, _kind: NXDOMAIN,
    "silent.test": lambda _count, _kind: None,
    "garbage.test": lambda _count, _kind: b"\xff" * 40,
}
REBINDING = "rebinding.test"
NAMES = {REBINDING, *ANSWERED, *UNANSWERED}


@dataclass(frozen=True, slots=True)
class Told:
    """What the program tells of a name: what became of its record, and who was met."""

    result: str
    detail: str
    dialled: list[str]
    asked: int
    """How often the name's IPv4 addresses were asked for so far."""


class Listener:
    """Listens at every address, and notes which was dialled for which name."""

    def __init__(self) -> None:
        self.dialled: dict[str, list[str]] = defaultdict(list)

    async def play(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Note a connection, whether or not a request comes, and answer."""
        address = writer.get_extra_info("sockname")[0]
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        name = head.partition("Host: ")[2].partition(":")[0]
        self.dialled[name].append(address)
        writer.write(REPLY)
        await writer.drain()
        writer.close()


async def _main(settings: Settings, vectors: dict[str, str]) -> dict[str, list[Told]]:
    """Fetch from every name; ``vectors`` are the addresses of further ones."""
    found: dict[str, list[Told]] = defaultdict(list)
    listener = Listener()
    further = {name: addresses(value) for name, value in vectors.items()}
    rebound: list[str] = []

    def rebinding(count: int, kind: int) -> list[Record]:
        """However often a busy machine asks: private once the public one was met."""
        found = addresses(*(rebound or [PUBLIC]))(count, kind)
        assert isinstance(found, list)
        return found

    resolver = Resolver({REBINDING: rebinding, **ANSWERED, **UNANSWERED, **further})

    async def fetch(worker: Trial, *names: str) -> None:
        listener.dialled.clear()
        registration = await worker.fetch(*(f"http://{name}:{PORT}/" for name in names))
        for name, each in zip(names, await registration.match_all(), strict=True):
            record = await each.refresh()
            dialled, asked = listener.dialled[name], resolver.asked[name, A]
            told = Told(str(record.result), record.failure_reason, dialled, asked)
            found[name].append(told)

    async with resolver:
        servers = [
            await asyncio.start_server(listener.play, "0.0.0.0", PORT),
            await asyncio.start_server(listener.play, "::", PORT),
        ]
        async with trials(settings)() as worker:
            await fetch(worker, REBINDING)
            rebound += ["127.0.0.1", "::1"]
            await fetch(worker, REBINDING)
            await fetch(worker, *ANSWERED, *further)
        async with trials(settings)() as worker:  # it remembers no name
            await fetch(worker, REBINDING)
        # What never leads anywhere is given up soon.
        second = timedelta(seconds=1)
        hasty = {"connect_timeout": second, "deadline": second}
        async with trials(settings.model_copy(update=hasty))() as worker:
            await fetch(worker, *UNANSWERED)
        for server in servers:
            server.close()
    return found


if __name__ == "__main__":
    _redis, _store = sys.argv[1:]
    _told = asyncio.run(
        _main(
            Settings(
                redis_url=_redis,
                store=Path(_store),
                durability=Durability.NONE,
                backoff=timedelta(milliseconds=20),
            ),
            json.load(sys.stdin),
        )
    )
    json.dump(
        {name: list(map(asdict, each)) for name, each in _told.items()}, sys.stdout
    )
