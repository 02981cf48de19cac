"""A producer that kills itself while its registration is staged, or before its end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from typing_extensions import override

from broker.connection import Connection
from broker.manager import BackgroundFetchManager
from broker.scripts import Argument
from broker.settings import Settings


class Dying(Connection):
    """Dies after so many batches were staged, at the latest before the commit."""

    def __init__(self, url: str, batches: int) -> None:
        super().__init__(url)
        self._left = batches

    @override
    async def ask_all(self, commands: Any) -> list[Any]:
        answers = await super().ask_all(commands)
        self._left -= 1
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)
        return answers

    @override
    async def run(
        self, name: str, keys: Sequence[str], arguments: Sequence[Argument] = ()
    ) -> Any:
        if name == "register":
            os.kill(os.getpid(), signal.SIGKILL)
        return await super().run(name, keys, arguments)


async def main(redis_url: str, scope: str, batches: int, requests: int) -> None:
    """Register a fetch of so many requests, and die on the way."""
    connection = Dying(redis_url, batches)
    settings = Settings(redis_url=redis_url)
    base = "https://cdn.example/"
    manager = BackgroundFetchManager(connection, settings, scope, base)
    await manager.fetch("x", (f"/{n}" for n in range(requests)))


if __name__ == "__main__":
    url, scope, batches, requests = sys.argv[1:]
    asyncio.run(main(url, scope, int(batches), int(requests)))
