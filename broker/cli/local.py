"""What a command starts on this machine where it is missing: a server, a worker.

Several commands share both. Whoever started the server takes it away with him, so every
command that needs one keeps watching, and starts what is missing then.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyio import to_thread

from broker.cli.children import Child
from broker.cli.output import say
from broker.cli.running import first_of
from broker.connection import Connection
from broker.embedded import EmbeddedServer, data_directory
from broker.queue import JobQueue
from schemas.errors import Failure, StartError

if TYPE_CHECKING:
    from broker.settings import Settings

LOOK_SECONDS = 1.0


class LocalServer:
    """The embedded server of the user's data directory, whoever runs it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._own: EmbeddedServer | None = None

    @property
    def own(self) -> EmbeddedServer | None:
        """The server that this process started, if any."""
        return self._own

    def ensure(self) -> str:
        """Return the URL of the running server, starting one if need be. Blocks.

        Raises:
            StartError: there is none, and none can be started.
        """
        url = EmbeddedServer.running_in(self.directory)
        if url is not None:
            return url
        self.stop()
        try:
            self._own = EmbeddedServer.start(self.directory, die_with_parent=True)
        except StartError:
            url = EmbeddedServer.running_in(self.directory)
            if url is None:
                raise
            return url  # somebody else was faster
        return self._own.url

    def stop(self) -> None:
        """End the server if it is ours. Blocks."""
        if self._own is not None:
            self._own.stop()
            self._own = None

    async def watch(self, url: str) -> None:
        """Until cancelled, start the server again whenever there is none."""
        complained = False
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            before = self._own
            try:
                found = await to_thread.run_sync(self.ensure)
            except Failure as error:
                if not complained:
                    say(str(error))
                complained = True
                continue
            complained = False
            if self._own is not before:
                say("the server was gone: another one runs now")
            if found != url:  # a port, where the path of a socket would be too long
                say("the server has another address now: run the command again")
                return


@asynccontextmanager
async def server_for(
    settings: Settings,
) -> AsyncIterator[tuple[str, LocalServer | None]]:
    """Yield the URL of a Redis: the one configured, else that of the embedded server.

    The embedded server is looked after for as long as the block runs.

    Raises:
        StartError: none is configured, and none can be started.
        Unreachable: the configured one does not answer.
    """
    if settings.redis_url:
        await answers(settings.redis_url)
        yield settings.redis_url, None
        return
    server = LocalServer(data_directory())
    try:
        url = await to_thread.run_sync(server.ensure)
        watching = asyncio.create_task(server.watch(url))
        try:
            yield url, server
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
    finally:
        await to_thread.run_sync(server.stop)


async def answers(url: str) -> None:
    """Make sure that there is a Redis, before children are started that need it.

    Raises:
        Unreachable: it does not answer.
    """
    connection = Connection(url)
    try:
        await connection.ping()
    finally:
        await connection.aclose()


class LocalWorker:
    """A worker of our own, for as long as nobody else's is alive when it is needed."""

    def __init__(
        self, url: str, program: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        """``program`` starts this program again; its log is in the data directory."""
        self._queue = JobQueue(url)
        self._child = Child(
            "worker",
            [*program, "worker", "--log-format", "json"],
            environment,
            log=data_directory() / "worker.log",
        )
        self._keeping: asyncio.Task[None] | None = None
        self.started = False

    def start(self, *, at_once: bool) -> None:
        """See from now on that some worker is alive; with ``at_once``, ours."""
        self._keeping = asyncio.create_task(self._keep(at_once=at_once))

    async def stop(self) -> None:
        """End our worker, if there is one."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        await self._queue.aclose()

    async def beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Do ``work``, unless our worker turns out to be unable to run.

        Raises:
            ChildEnded: it is; its log says why.
        """
        assert self._keeping is not None
        await first_of(work, self._keeping)

    async def _keep(self, *, at_once: bool) -> None:
        while not at_once:
            if not await self._somebody():
                break
            await asyncio.sleep(LOOK_SECONDS)
        self.started = True
        await self._child.keep()

    async def _somebody(self) -> bool:
        with suppress(Failure):
            return bool(await self._queue.workers_alive())
        return True  # without Redis there is nothing to work on


def environment_of(settings: Settings, url: str) -> dict[str, str]:
    """The environment in which children have these settings, and this Redis."""
    allowed = ",".join(str(network) for network in settings.allow_networks.allow)
    return {
        **os.environ,
        "BGFETCH_REDIS_URL": url,
        "BGFETCH_STORE": settings.store_place,
        "BGFETCH_ALLOW_NETWORKS": allowed,
        "BGFETCH_CONCURRENCY": str(settings.concurrency),
        "BGFETCH_GRACE": str(settings.grace.total_seconds()),
    }
