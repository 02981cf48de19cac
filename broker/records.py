"""Reading records: which ones match a request, and how each one stands (§ match)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from anyio import to_thread

from broker.codings import DecodingLimits
from broker.connection import Connection
from broker.keys import FetchKeys
from broker.settings import Settings, milliseconds
from broker.store import BlobStore
from broker.stores import introduce, open_store
from schemas.errors import InvalidState
from schemas.fetches import FetchState, Result
from schemas.records import RecordResult, RecordState, ResponseHead
from schemas.requests import Request

BATCH = 500
RELEASED = "the records of this background fetch are released"


@dataclass(frozen=True, slots=True)
class MatchOptions:
    """``CacheQueryOptions``: what a comparison leaves out of account."""

    ignore_search: bool = False
    ignore_method: bool = False
    ignore_vary: bool = False


@dataclass(frozen=True, slots=True)
class RecordLook:
    """How one record stands: at most as new as the moment of asking."""

    fetch_result: Result
    result: RecordResult
    stored: int
    """Bytes that a reader may have: contiguous, from the start of one part (R8)."""
    state: RecordState

    @property
    def outcome(self) -> RecordResult:
        """The result, where open records of an ended fetch are aborted (R13)."""
        if self.result is RecordResult.OPEN and self.fetch_result is not Result.ACTIVE:
            return RecordResult.ABORTED
        return self.result

    @property
    def status(self) -> int:
        """The status code, once there is one that may be seen; else 0."""
        head = self.state.head
        return head.status if head is not None and self.outcome.exposed else 0

    @property
    def length(self) -> int:
        """Bytes of the whole record as far as they are known, else 0."""
        if self.outcome is not RecordResult.OPEN:
            return self.stored
        validators, head = self.state.validators, self.state.head
        if validators is not None and validators.length:
            return validators.length
        told = (head.get("Content-Length") if head is not None else "") or ""
        return int(told) if told.isascii() and told.isdigit() else 0

    @property
    def resumes(self) -> int:
        """Exchanges after the first that went on with what was there."""
        return max(0, self.state.attempts - 1 - self.state.restarts)

    @property
    def validator(self) -> str:
        """What tells the version that is fetched from another (R7); else empty."""
        validators, head = self.state.validators, self.state.head
        if validators is not None:
            return validators.etag or validators.last_modified or ""
        return (head.get("ETag") or "") if head is not None else ""

    @classmethod
    def of(cls, fetch_result: bytes, state: bytes | None, record: bytes | None) -> Self:
        """Read what Redis has: the fetch's result, how far, and the record's state."""
        stored, _, rest = (state or b"").decode().partition(" ")
        return cls(
            Result(fetch_result.decode()),
            RecordResult(rest.split(" ")[1] if rest else ""),
            int(stored or 0),
            RecordState.decode(record) if record else RecordState(),
        )


class RecordReader:
    """Looks at records in Redis, and opens their bytes in the blob store."""

    def __init__(self, connection: Connection, settings: Settings) -> None:
        self._connection = connection
        self._settings = settings
        self._opened: BlobStore | None = None
        self._introduced = False

    @property
    def store(self) -> BlobStore:
        """The blob store, opened when first needed.

        Raises:
            StorageError: it cannot be opened.
        """
        if self._opened is None:
            self._opened = open_store(self._settings)
        return self._opened

    async def writable_store(self) -> BlobStore:
        """Return the blob store, which Redis has heard of, to put bytes into (R16).

        Raises:
            Unreachable: Redis does not answer.
            StorageError: the store cannot be opened.
        """
        store = await self.open()
        if not self._introduced:
            await introduce(self._connection, store)
            self._introduced = True
        return store

    async def open(self) -> BlobStore:
        """Return the blob store, opened now if it was not, however long that takes.

        Raises:
            ConfigError, StorageError: it cannot be opened.
        """
        if self._opened is None:
            return await to_thread.run_sync(lambda: self.store)
        return self._opened

    @property
    def decoding(self) -> DecodingLimits:
        """How large a decoded body may become."""
        return self._settings.decoding

    async def look(
        self, keys: FetchKeys, index: int, *, reader: str = ""
    ) -> RecordLook:
        """Ask how a record stands; a named ``reader`` keeps its bytes meanwhile (R17).

        Raises:
            InvalidState: the records are released.
        """
        reply = await self._connection.run(
            "read",
            [keys.fetch, keys.states, keys.records, keys.readers],
            [index, reader, milliseconds(self._settings.lease * 3)],
        )
        if not reply:
            raise InvalidState(RELEASED)
        return RecordLook.of(*reply)

    async def page(
        self, keys: FetchKeys, start: int, limit: int
    ) -> list[tuple[Request, RecordLook]]:
        """Look at some records at once; fewer, or none, beyond the last.

        Raises:
            InvalidState: the records are released.
        """
        indexes = range(start, start + limit)
        fetch, *rows = await self._connection.ask_all(
            [
                ("HMGET", keys.fetch, "result", "recordsAvailable"),
                *(
                    ("HMGET", key, *indexes)
                    for key in (keys.requests, keys.states, keys.records)
                ),
            ]
        )
        result, available = fetch
        if available != b"1":
            raise InvalidState(RELEASED)
        return [
            (Request.decode(request), RecordLook.of(result, state, record))
            for request, state, record in zip(*rows, strict=True)
            if request is not None
        ]

    async def close(self, keys: FetchKeys, reader: str) -> None:
        """End a reader's lease."""
        await self._connection.ask("ZREM", keys.readers, reader)

    async def matching(
        self, fetch: FetchState, query: str | Request | None, options: MatchOptions
    ) -> list[tuple[int, Request]]:
        """Return index and request of every record that matches, in request order."""
        keys = FetchKeys(fetch.scope, fetch.uid)
        wanted = (
            Request.of(query).resolve(fetch.base_url) if query is not None else None
        )
        found: list[tuple[int, Request]] = []
        for start in range(0, fetch.records, BATCH):
            indexes = range(start, min(start + BATCH, fetch.records))
            rows: list[bytes | None] = await self._connection.ask(
                "HMGET", keys.requests, *indexes
            )
            for index, row in zip(indexes, rows, strict=True):
                if row is None:
                    raise InvalidState(f"the records of {fetch.id!r} are released")
                request = Request.decode(row)
                if wanted is None or await self._matches(
                    keys, index, request, wanted, options
                ):
                    found.append((index, request))
        return found

    async def _matches(
        self,
        keys: FetchKeys,
        index: int,
        stored: Request,
        query: Request,
        options: MatchOptions,
    ) -> bool:
        if not same_resource(stored, query, options):
            return False
        if options.ignore_vary:
            return True
        look = await self.look(keys, index)
        return look.state.head is None or not varies(look.state.head, stored, query)


def same_resource(stored: Request, query: Request, options: MatchOptions) -> bool:
    """Compare method and URL (Service Workers § request matches cached item 1-5)."""
    if stored.method != "GET" and not options.ignore_method:
        return False
    # In a serialised URL the first # and ? begin fragment and query, also empty ones.
    ours, theirs = (each.url.partition("#")[0] for each in (stored, query))
    if options.ignore_search:
        ours, theirs = (url.partition("?")[0] for url in (ours, theirs))
    return ours == theirs


def varies(head: ResponseHead, stored: Request, query: Request) -> bool:
    """Whether ``Vary`` tells the two requests apart (§ request matches … 6-9)."""
    names = [name.strip().lower() for name in (head.get("Vary") or "").split(",")]
    return any(
        name == "*" or _values(stored, name) != _values(query, name)
        for name in names
        if name
    )


def _values(request: Request, name: str) -> str | None:
    found = [value for key, value in request.header_list if key.lower() == name]
    return ", ".join(found) if found else None
