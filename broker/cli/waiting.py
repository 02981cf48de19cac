"""Registering what ``bgfetch fetch`` asks for, and seeing it through to the result."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from broker.cli.exits import ExitCode
from broker.cli.files import Folder
from broker.cli.local import LocalServer, LocalWorker, environment_of, server_for
from broker.cli.options import Session
from broker.cli.output import amount, outcome, put, put_json, say
from broker.cli.progress import Follower
from broker.cli.quantities import seconds
from broker.cli.records import exit_code, records_of, told_record
from broker.cli.requests import fingerprint
from broker.cli.saving import save
from broker.filenames import safe_name
from broker.manager import BackgroundFetchManager, connect
from broker.plain import as_plain
from broker.queue import JobQueue
from broker.registration import BackgroundFetchRegistration
from broker.settings import Settings
from schemas.records import RecordResult
from schemas.requests import Request


@dataclass(frozen=True, slots=True)
class Wish:
    """What one call of ``bgfetch fetch`` asks for."""

    requests: tuple[Request, ...]
    id: str | None
    title: str
    icons: tuple[str, ...]
    download_total: int
    hold: timedelta
    priority: str
    wait_timeout: timedelta | None
    output: Path | None
    raw: bool

    def new_id(self) -> str:
        """The id that is given, else the file's name with something random."""
        if self.id is not None:
            return self.id
        return f"{self._name}-{secrets.token_hex(4)}"

    def same_id(self) -> str:
        """The id that is given, else one that the same wish gets every time."""
        if self.id is not None:
            return self.id
        digest = hashlib.sha256(str(self.download_total).encode())
        for request in self.requests:
            digest.update(fingerprint(request))
        return f"{self._name}-{digest.hexdigest()[:8]}"

    @property
    def _name(self) -> str:
        return safe_name(self.requests[0].url)


class Call:
    """One call of ``bgfetch fetch``."""

    def __init__(
        self,
        wish: Wish,
        scope: str,
        settings: Settings,
        session: Session,
    ) -> None:
        self._wish = wish
        self._scope = scope
        self._settings = settings
        self._session = session
        self._folder = Folder(wish.output) if wish.output is not None else None

    async def register_only(self) -> int:
        """Register the fetch and print its id."""
        async with connect(scope=self._scope, settings=self._settings) as manager:
            registration = await self._fetch(manager, self._wish.new_id())
            if self._session.json:
                put_json(as_plain(registration.state))
            else:
                put(registration.id)
            if registration.state.prompt:
                say(
                    "it waits for permission: `bgfetch resume` approves it, "
                    "`bgfetch abort` refuses it"
                )
            queue = JobQueue(manager.connection.url)
            if not await queue.workers_alive():
                say("no worker is running: start one with `bgfetch worker`")
            await queue.aclose()
        return ExitCode.OK

    async def wait(self) -> int:
        """Register the fetch, or go on with it, and see it through."""
        if self._folder is not None:
            self._folder.make()
        async with server_for(self._settings) as (url, server):
            settings = self._settings.model_copy(update={"redis_url": url})
            async with connect(scope=self._scope, settings=settings) as manager:
                registration = await self._registered(manager)
                async with self._worked_on(url, server) as worker:
                    done = await self._follow(manager, registration, worker)
                if done:
                    return await self._conclude(manager, registration)
                return ExitCode.TIMEOUT

    async def _fetch(
        self, manager: BackgroundFetchManager, id: str
    ) -> BackgroundFetchRegistration:
        wish = self._wish
        return await manager.fetch(
            id,
            wish.requests,
            title=wish.title,
            icons=[{"src": icon} for icon in wish.icons],
            download_total=wish.download_total,
            hold=wish.hold,
            priority=wish.priority,
        )

    async def _registered(
        self, manager: BackgroundFetchManager
    ) -> BackgroundFetchRegistration:
        """Only an id of our own making means: the same wish, interrupted before."""
        id = self._wish.same_id()
        active = None if self._wish.id is not None else await manager.get(id)
        if active is None:
            return await self._fetch(manager, id)
        say(f"going on with {id}: {amount(active.downloaded, 0)} are here already")
        return active

    @asynccontextmanager
    async def _worked_on(
        self, url: str, server: LocalServer | None
    ) -> AsyncIterator[LocalWorker]:
        """See that a worker is alive; where the server is ours, no other can be."""
        own = server is not None and server.own is not None
        environment = environment_of(self._settings, url)
        worker = LocalWorker(url, self._session.program, environment)
        if own:
            say("no server was running: one runs until this is done, with a worker")
        worker.start(at_once=own)
        try:
            yield worker
        finally:
            await worker.stop()

    async def _follow(
        self,
        manager: BackgroundFetchManager,
        registration: BackgroundFetchRegistration,
        worker: LocalWorker,
    ) -> bool:
        """Show progress until the result; False if that takes too long."""
        wish = self._wish
        if not (self._session.json or wish.output):
            put(registration.id)
        follower = Follower(manager, registration)
        try:
            async with asyncio.timeout(seconds(wish.wait_timeout)):
                await worker.beside(follower.follow())
        except TimeoutError:
            say(f"not done in time; {_goes_on(registration, worker)}")
            return False
        except asyncio.CancelledError:
            say(f"interrupted; {_goes_on(registration, worker)}")
            raise
        return True

    async def _conclude(
        self,
        manager: BackgroundFetchManager,
        registration: BackgroundFetchRegistration,
    ) -> int:
        """Tell what failed, save what succeeded, and let go of the records."""
        records = await records_of(manager, registration)
        for record in records:
            if record.result is not RecordResult.SUCCESS:
                say(told_record(record))
        state = registration.state
        say(f"{state.id}: {outcome(state)}, {amount(state.downloaded, 0)}")
        files: list[Path | None] = [None] * len(records)
        if self._folder is not None:
            raw = self._wish.raw
            files = await save(registration, records, self._folder, raw=raw)
        if self._session.json:
            rows = [
                record.as_json() | ({"file": str(file)} if file else {})
                for record, file in zip(records, files, strict=True)
            ]
            put_json(as_plain(state) | {"recordList": rows})
        else:
            for file in filter(None, files):
                put(str(file))
        return exit_code(state)


def _goes_on(registration: BackgroundFetchRegistration, worker: LocalWorker) -> str:
    if worker.started:
        return (
            f"{registration.id} keeps what has arrived: "
            "`bgfetch up`, or the same command again, goes on with it"
        )
    words = shlex.join(["--scope", registration.scope, "--", registration.id])
    return (
        f"{registration.id} goes on without this command: "
        f"`bgfetch watch {words}` shows it, `bgfetch abort {words}` ends it"
    )
