"""``BackgroundFetchManager``: register background fetches and find them again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from weakref import WeakValueDictionary

import structlog

from broker.bodies import Deposit, named_bodies, travels
from broker.connection import Connection
from broker.context import context
from broker.keys import SCOPES, FetchKeys, ScopeKeys
from broker.places import described, places
from broker.policies import POLICY
from broker.queue import JobQueue, LaneJob
from broker.records import RecordReader
from broker.registration import BackgroundFetchRegistration
from broker.settings import Settings, milliseconds
from broker.subscribers import Subscribers
from broker.watcher import Watcher
from schemas.bodies import BodyStream
from schemas.errors import DuplicateFetch, Failure, InvalidState, RejectedFetch
from schemas.fetches import FetchState, Priority
from schemas.names import check_id, check_scope, new_uid
from schemas.options import FetchOptions, ImageResource
from schemas.policies import ScopePolicy
from schemas.requests import Request
from schemas.urls import check_address, origin_of, parse_url

log = structlog.get_logger()

STAGE_SIZE = 500
"""Requests in one command while a registration is staged."""
STAGE_TTL = timedelta(minutes=10)


@asynccontextmanager
async def connect(
    redis_url: str | None = None,
    *,
    scope: str,
    base_url: str | None = None,
    settings: Settings | None = None,
) -> AsyncIterator[BackgroundFetchManager]:
    """Open the background fetches of ``scope``, creating the scope when first used.

    Without ``redis_url`` it is that of the settings (``BGFETCH_REDIS_URL``), else the
    server that ``bgfetch up`` runs on this machine. Relative URLs resolve against
    ``base_url``, by default ``BGFETCH_BASE_URL``, else ``http://localhost:8780/``.

    Raises:
        InvalidName: ``scope`` is no scope name.
        InvalidURL: ``base_url`` is no http(s) URL.
        ConfigError: a setting cannot be used.
        Unreachable: there is no Redis.
    """
    check_scope(scope)
    settings = settings or Settings.load()
    base = parse_url(base_url or settings.base_url, None)
    connection = Connection(settings.found_redis(redis_url))
    manager = BackgroundFetchManager(connection, settings, scope, base)
    try:
        await connection.ping()
        yield manager
    finally:
        await manager.aclose()
        await connection.aclose()


class BackgroundFetchManager:
    """The background fetches of one scope (§ BackgroundFetchManager).

    Made by ``connect``. For one fetch it returns one and the same registration object.
    """

    def __init__(
        self, connection: Connection, settings: Settings, scope: str, base_url: str
    ) -> None:
        self.connection = connection
        self.settings = settings
        self.reader = RecordReader(connection, settings)
        self._scope = scope
        self._base_url = base_url
        self._keys = ScopeKeys(scope)
        self.queue = JobQueue(connection.url)
        self._watcher = Watcher(
            connection, self._keys.progress, self._update, self._resynchronise
        )
        # By uid, never by id: ids are used again (R23).
        self._registrations: WeakValueDictionary[str, BackgroundFetchRegistration] = (
            WeakValueDictionary()
        )

    @property
    def scope(self) -> str:
        """The name of the scope."""
        return self._scope

    @property
    def subscribers(self) -> Subscribers:
        """Who handles the events of the scope: look at them, pause, replay, remove."""
        return Subscribers(self.connection, self.settings, self._scope)

    async def aclose(self) -> None:
        """Stop updates; registrations keep their last values."""
        await self._watcher.aclose()
        await self.queue.aclose()

    async def watching(self) -> None:
        """Return once published states reach this manager's registrations."""
        await self._watcher.ready()

    async def fetch(
        self,
        id: str,
        requests: str | Request | Iterable[str | Request],
        *,
        title: str = "",
        icons: Iterable[ImageResource | Mapping[str, str]] = (),
        download_total: int = 0,
        hold: timedelta = timedelta(0),
        priority: Priority | str = Priority.AUTO,
    ) -> BackgroundFetchRegistration:
        """Start a background fetch and return once it is durable (§ fetch).

        It is registered whole or not at all, the wish for work included (guarantee 1).
        ``download_total`` is in bytes; exceeding it fails the fetch; 0 means unknown.
        Records stay readable for ``hold`` after the result, however fast subscribers
        are. Bodies are read to their end and stored before it returns (BF-FETCH-14).

        Raises:
            RejectedFetch: ``requests`` is empty, an argument has the wrong form, or a
                body cannot be read.
            InvalidURL: a URL cannot be parsed or may not be fetched; the policy of the
                scope has a say in that.
            DuplicateFetch: an active fetch of this scope has this ``id``.
            QuotaExceeded: Redis has no room for the registration, or the blob store
                for a body.
            StorageError: the blob store refuses a body for another reason.
            Unreachable: Redis does not answer. The fetch may have been registered.
        """
        check_id(id)
        options = FetchOptions.checked(title, icons, download_total, hold)
        wanted = _check_priority(priority)
        checked, urls = self._checked(requests)
        keys = self._keys.fetch(new_uid())
        fields: dict[str, str | int] = {
            "id": id,
            "uid": keys.uid,
            "scope": self._scope,
            "title": options.title,
            "icons": json.dumps([icon.model_dump() for icon in options.icons]),
            "downloadTotal": options.download_total,
            "baseUrl": self._base_url,
            "hold": milliseconds(options.hold),
            "priority": wanted,
        }
        await self.watching()
        async with Deposit(self.reader) as deposit:
            if any(not travels(request) for request in checked):
                # Nobody waits for gigabytes only to hear this.
                await self._foresee(id, urls, options.download_total)
                await deposit.store(checked)
            fields["uploadTotal"] = sum(request.upload_total for request in checked)
            policy = await self._stage(keys, checked)
            try:
                policy.check(urls, options.download_total)
            except RejectedFetch:
                await self.connection.ask("UNLINK", keys.staged, keys.bodies)
                raise
            fields |= {POLICY: policy.text, "maxBytes": policy.max_bytes}
            deposit.offered = True
            state, jobs = await self._register(keys, fields, len(checked))
        await self._enqueue(state, jobs, wanted)
        return self.registration(state)

    async def _foresee(self, id: str, urls: list[str], download_total: int) -> None:
        """Raise what the registration would be refused with by now."""
        if await self.connection.ask("HEXISTS", self._keys.active, id):
            raise self._duplicate(id)
        policy = await self.connection.ask("HGET", self._keys.scope_hash, POLICY)
        ScopePolicy.read(policy).check(urls, download_total)

    def _duplicate(self, id: str) -> DuplicateFetch:
        return DuplicateFetch(
            f"scope {self._scope!r} already has an active fetch {id!r}"
        )

    def _checked(
        self, requests: str | Request | Iterable[str | Request]
    ) -> tuple[list[Request], list[str]]:
        """Check every request before anything is stored (BF-FETCH-07).

        Returns the requests, with absolute URLs, and a URL of each origin.
        """
        items = [requests] if isinstance(requests, str | Request) else requests
        checked: list[Request] = []
        origins: dict[str, str] = {}
        for item in items:
            request = Request.of(item).resolve(self._base_url)
            if (origin := origin_of(request.url)) not in origins:
                check_address(request.url, self.settings.allow_networks)
                origins[origin] = request.url
            if isinstance(request.body, BodyStream):
                request.body.check()
            checked.append(request)
        if not checked:
            raise RejectedFetch("at least one request must be given, got none")
        return checked, list(origins.values())

    async def _stage(self, keys: FetchKeys, requests: Sequence[Request]) -> ScopePolicy:
        """Store the requests; return the scope's policy, read on the same way."""
        policy: bytes | None = None
        async with self.connection.redis.pipeline(transaction=False) as pipe:
            for start in range(0, len(requests), STAGE_SIZE):
                batch = list(enumerate(requests[start : start + STAGE_SIZE], start))
                pipe.hset(
                    keys.staged, mapping={at: each.encode() for at, each in batch}
                )
                pipe.pexpire(keys.staged, STAGE_TTL)
                if bodies := named_bodies(batch):
                    pipe.hset(keys.bodies, mapping=bodies)
                    pipe.pexpire(keys.bodies, STAGE_TTL)
                pipe.hget(self._keys.scope_hash, POLICY)
                async with self.connection.answering():
                    *_, policy = await pipe.execute()
        return ScopePolicy.read(policy)

    async def _register(
        self, keys: FetchKeys, fields: Mapping[str, str | int], count: int
    ) -> tuple[FetchState, list[bytes]]:
        lanes = min(self.settings.max_lanes, -(-count // self.settings.lane_size))
        names, arguments = context(keys, self.settings)
        place_keys, place_arguments = places(keys, self.settings)
        scope = self._keys
        reply = await self.connection.run(
            "register",
            [
                *names,
                scope.latest,
                scope.fetches,
                keys.staged,
                keys.requests,
                SCOPES,
                keys.bodies,
                *place_keys,
                *place_keys,
            ],
            [
                *arguments,
                1 if fields["downloadTotal"] or fields["maxBytes"] else lanes,
                count,
                *(part for pair in fields.items() for part in pair),
                *place_arguments,
            ],
        )
        if reply[0] == b"duplicate":
            raise self._duplicate(str(fields["id"]))
        if reply[0] != b"ok":
            raise Failure(
                f"the staged requests of {fields['id']!r} were lost: try again"
            )
        hash_ = dict(zip(reply[1][::2], reply[1][1::2], strict=True))
        return FetchState.from_hash(hash_), reply[2]

    async def _enqueue(
        self, state: FetchState, jobs: Sequence[bytes], priority: Priority
    ) -> None:
        """Enqueue those jobs that got a place: ours, seldom of others that waited."""
        mine = [job for job in jobs if job.startswith(state.uid.encode())]
        others = [job for job in jobs if job not in mine]
        lanes = [
            LaneJob(
                job.decode(), state.scope, state.uid, state.id, state.records, priority
            )
            for job in mine
        ]
        # The fetch is registered; a job lost here is found missing by a reclaimer (R1).
        try:
            lanes += await described(self.connection, state.scope, others)
            await self.queue.enqueue(lanes)
        except Failure as error:
            log.warning("job_not_enqueued", id=state.id, error=str(error))

    async def get(self, id: str) -> BackgroundFetchRegistration | None:
        """Return the active background fetch with this id, or None (§ get).

        Raises:
            InvalidName: ``id`` is empty (BF-GET-05).
        """
        check_id(id)
        await self.watching()
        entry: bytes | None = await self.connection.ask("HGET", self._keys.active, id)
        return await self.lookup(entry.decode().partition(":")[2]) if entry else None

    async def get_ids(self) -> list[str]:
        """Return the ids of the active background fetches, oldest first (§ getIds)."""
        entries: dict[bytes, bytes] = await self.connection.ask(
            "HGETALL", self._keys.active
        )
        by_age = sorted(entries, key=lambda id: int(entries[id].partition(b":")[0]))
        return [id.decode() for id in by_age]

    async def find(self, id: str) -> BackgroundFetchRegistration | None:
        """Return the newest retained fetch with this id, ended or not, or None."""
        check_id(id)
        await self.watching()
        uid: bytes | None = await self.connection.ask("HGET", self._keys.latest, id)
        return await self.lookup(uid.decode()) if uid else None

    async def lookup(self, uid: str) -> BackgroundFetchRegistration | None:
        """Return the retained fetch with this uid, or None."""
        known = self._registrations.get(uid)
        if known is not None:
            try:
                await known.refresh()
            except InvalidState:
                return None
            return known
        keys = self._keys.fetch(uid)
        fields: dict[bytes, bytes] = await self.connection.ask("HGETALL", keys.fetch)
        return self.registration(FetchState.from_hash(fields)) if fields else None

    async def history(self, *, limit: int = 100, skip: int = 0) -> list[FetchState]:
        """Return retained fetches of this scope, ended ones included, newest first."""
        uids: list[bytes] = await self.connection.ask(
            "ZREVRANGE", self._keys.fetches, skip, skip + limit - 1
        )
        async with self.connection.redis.pipeline(transaction=False) as pipe:
            for uid in uids:
                pipe.hgetall(self._keys.fetch(uid.decode()).fetch)
            async with self.connection.answering():
                rows = await pipe.execute()
        return [FetchState.from_hash(row) for row in rows if row]

    def registration(self, state: FetchState) -> BackgroundFetchRegistration:
        """Return this manager's one object for the fetch (BF-INST-01)."""
        known = self._registrations.get(state.uid)
        if known is None:
            known = BackgroundFetchRegistration(self, state)
            self._registrations[state.uid] = known
        else:
            known.update(state)
        return known

    def _update(self, state: FetchState) -> None:
        known = self._registrations.get(state.uid)
        if known is not None:
            known.update(state)

    async def _resynchronise(self) -> None:
        for uid in list(self._registrations):
            await self.lookup(uid)


def _check_priority(priority: Priority | str) -> Priority:
    try:
        return Priority(priority)
    except ValueError as error:
        known = ", ".join(repr(str(known)) for known in Priority)
        raise RejectedFetch(
            f"priority must be one of {known}, got {priority!r}"
        ) from error
