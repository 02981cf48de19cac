"""``BackgroundFetchManager``: register background fetches and find them again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from weakref import WeakValueDictionary

import structlog

from broker.clicks import Clicks
from broker.connection import Connection
from broker.keys import ScopeKeys
from broker.listing import EXAMINED, Listing, Page
from broker.policies import read_policy
from broker.progress_events import ProgressTarget
from broker.registrar import Registrar
from broker.registration import BackgroundFetchRegistration
from broker.removal import Removal
from broker.settings import Settings
from broker.shared import Shared
from broker.subscribers import Subscribers
from broker.watcher import Watcher
from schemas.errors import InvalidState, RejectedFetch
from schemas.fetches import FetchState, Priority
from schemas.names import check_id, check_scope, check_uid, is_uid, new_uid
from schemas.options import FetchOptions, ImageResource
from schemas.policies import Permission
from schemas.requests import Request
from schemas.urls import parse_url

log = structlog.get_logger()


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
        self,
        connection: Connection,
        settings: Settings,
        scope: str,
        base_url: str,
        shared: Shared | None = None,
    ) -> None:
        """``shared``: what managers of many scopes in one process have in common.

        Such a manager opens no connection of its own until somebody waits for news.
        """
        self.connection = connection
        self.settings = settings
        self._shared = shared
        own = shared or Shared.of(connection, settings)
        self.reader, self.queue = own.reader, own.queue
        self.clicks = Clicks(connection, settings)
        self._scope = scope
        self._base_url = base_url
        self._keys = ScopeKeys(scope)
        self._registrar = Registrar(
            connection,
            settings,
            self._keys,
            base_url,
            reader=self.reader,
            queue=self.queue,
        )
        self._watcher = Watcher(
            connection, self._keys.progress, self._update, self._resynchronise
        )
        self.listening: set[ProgressTarget] = set()
        """Active fetches whose listeners would be missed, though nobody holds them."""
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
        await self.clicks.aclose()
        await self._watcher.aclose()
        if self._shared is None:
            await self.queue.aclose()

    async def watching(self) -> None:
        """Return once published states reach this manager's registrations."""
        await self._watcher.ready()

    async def _live(self) -> None:
        if self._shared is None:
            await self.watching()

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
        token: str | None = None,
    ) -> BackgroundFetchRegistration:
        """Start a background fetch and return once it is durable (§ fetch).

        It is registered whole or not at all, the wish for work included (guarantee 1).
        ``download_total`` is in bytes; exceeding it fails the fetch; 0 means unknown.
        Records stay readable for ``hold`` after the result, however fast subscribers
        are. Bodies are read to their end and stored before it returns (BF-FETCH-14).
        Where the permission of the scope is ``prompt``, it starts paused.

        Who may have to repeat a call gives it a ``token`` of its own making, 32 random
        hexadecimal digits, which becomes the ``uid``: what the first call registered is
        the answer to the second (R23).

        Raises:
            RejectedFetch: ``requests`` is empty, an argument has the wrong form, or a
                body cannot be read.
            InvalidURL: a URL cannot be parsed or may not be fetched; the policy of the
                scope has a say in that.
            DuplicateFetch: an active fetch of this scope has this ``id``.
            NoActiveWorker: the scope requires a subscriber, and has none.
            NotAllowed: the permission of the scope is denied.
            InvalidState: the scope is being removed.
            QuotaExceeded: Redis has no room for the registration, or the blob store
                for a body; or the policy of the scope allows fewer bytes.
            StorageError: the blob store refuses a body for another reason.
            Unreachable: Redis does not answer. The fetch may have been registered.
        """
        check_id(id)
        options = FetchOptions.checked(title, icons, download_total, hold)
        wanted = _check_priority(priority)
        order = self._registrar.order(id, requests, options, wanted)
        await self._live()
        uid = new_uid() if token is None else check_uid(token)
        return self.registration(await self._registrar.register(order, uid))

    async def permission(self) -> Permission:
        """Return the scope's permission for background fetches (§ Permissions)."""
        return (await read_policy(self.connection, self._scope)).permission

    async def get(self, id: str) -> BackgroundFetchRegistration | None:
        """Return the active background fetch with this id, or None (§ get).

        Raises:
            InvalidName: ``id`` is empty (BF-GET-05).
        """
        check_id(id)
        await self._live()
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
        await self._live()
        uid: bytes | None = await self.connection.ask("HGET", self._keys.latest, id)
        return await self.lookup(uid.decode()) if uid else None

    async def lookup(self, uid: str) -> BackgroundFetchRegistration | None:
        """Return the retained fetch with this uid, or None."""
        if not is_uid(uid):  # other names may be those of other keys
            return None
        known = self._registrations.get(uid)
        if known is not None:
            try:
                await known.refresh()
            except InvalidState:
                return None
            return known
        keys = self._keys.fetch(uid)
        fields: dict[bytes, bytes] = await self.connection.ask("HGETALL", keys.fetch)
        state = FetchState.found(fields)
        return self.registration(state) if state else None

    async def unregister(
        self, progress: Callable[[int, int], object] | None = None
    ) -> bool:
        """Remove the scope with all that is its own; False if there is no such scope.

        The counterpart of ``ServiceWorkerRegistration.unregister()``: active fetches
        end as aborted, without any event, no listener is called any more, and
        subscribers, streams, dead letters and rules are gone when this returns. Bytes
        are deleted by workers that have the store, at the end of the release grace, or
        when who reads one has read it. Until then ``fetch()`` raises; after it, the
        scope is as if it had never been.

        ``progress`` is called with the numbers of fetches that are cleared, and that
        were there at the start. A call that is interrupted is finished by any worker,
        or by repeating it.

        Raises:
            Unreachable: Redis does not answer. The scope may be closed.
        """
        removal = Removal(self.connection, self.settings, self._scope)
        total, cleared, done = await removal.begin(), 0, False
        while total >= 0 and not done:
            step = await removal.step()
            await self.queue.drop(step.jobs)
            cleared, done = cleared + step.cleared, step.done
            if progress is not None:
                progress(min(cleared, total), total)
        return total >= 0

    async def history(self, *, limit: int = 100) -> list[FetchState]:
        """Return retained fetches of this scope, ended ones included, newest first."""
        return list((await self.history_page(limit=limit)).items)

    async def history_page(
        self, *, limit: int = 100, cursor: str | None = None
    ) -> Page:
        """Return the same a page at a time; ``cursor`` is that of the page before.

        None is shown twice or left out, whatever is registered or forgotten meanwhile.

        Raises:
            InvalidFilter: ``cursor`` is no page's.
        """
        listing = Listing(self.connection, self.settings)
        return await listing.page(
            scope=self._scope, cursor=cursor, limit=limit, examine=max(limit, EXAMINED)
        )

    def registration(self, state: FetchState) -> BackgroundFetchRegistration:
        """Return this manager's one object for the fetch (BF-INST-01)."""
        known = self._registrations.get(state.uid)
        if known is None:
            known = BackgroundFetchRegistration(self, state)
            self._registrations[state.uid] = known
        else:
            known.update(state)
        return known

    def _update(self, told: dict[str, object]) -> None:
        """Read the states of fetches that somebody here holds, and no others."""
        known = self._registrations.get(str(told.get("uid")))
        if known is not None:
            known.update(FetchState.from_plain(told))

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
