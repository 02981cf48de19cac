"""``BackgroundFetchRecord``: one request of a fetch, with its response."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator
from dataclasses import replace
from typing import Any, Protocol

from typing_extensions import override

from broker.bodies import StoredStream
from broker.body import unexposed
from broker.keys import FetchKeys
from broker.records import RecordLook, RecordReader
from broker.response import Response
from schemas.bodies import BodyStream, StoredBody
from schemas.fetches import FetchState, Progress
from schemas.integrity import parse_integrity
from schemas.records import RecordResult
from schemas.requests import Request


class Fetch(Protocol):
    """What a record needs of its registration."""

    @property
    def state(self) -> FetchState:
        """The current state."""

    async def changed(self, *, since: Progress) -> None:
        """Return once something changed, or after a few seconds."""


class BackgroundFetchRecord:
    """One request of a background fetch; made by ``match`` and ``match_all`` alone."""

    def __init__(
        self,
        fetch: Fetch,
        reader: RecordReader,
        index: int,
        request: Request,
        look: RecordLook | None = None,
    ) -> None:
        self._fetch = fetch
        self._reader = reader
        self._index = index
        self._request = request
        self._keys = FetchKeys(fetch.state.scope, fetch.state.uid)
        self._look = look

    @override
    def __repr__(self) -> str:
        return f"<BackgroundFetchRecord {self._request.method} {self._request.url}>"

    @property
    def index(self) -> int:
        """Its place among the requests of the fetch, from 0."""
        return self._index

    @property
    def request(self) -> Request:
        """The request as it was registered, its body included (BF-OBJ-01).

        A large body is an asynchronous iterable of bytes, from the store, while the
        records are available. Each access gives a new one, which ``fetch()`` takes too.
        """
        body = self._request.body
        if not isinstance(body, StoredBody):
            return self._request
        stored = StoredStream(self._reader, self._keys, self._index, body)
        return replace(self._request, body=BodyStream(stored))

    @property
    def upload_total(self) -> int:
        """Bytes of the body of the request."""
        return self._request.upload_total

    @property
    def response_ready(self) -> Awaitable[Response]:
        """Await it, any number of times, for the response once its head is known.

        The body may still be arriving then (BF-OBJ-02), unless the request has an
        ``integrity`` to check: then its bytes are shown only once they are proved.

        Raises:
            Aborted: the fetch was aborted before this record was complete.
            RecordFailed: the record failed without a response that may be shown.
            InvalidState: the records are released.
        """
        return _Ready(self)

    @property
    def result(self) -> RecordResult:
        """How the record stood when last looked at; see ``refresh``."""
        return self._look.outcome if self._look else RecordResult.OPEN

    @property
    def failure_reason(self) -> str:
        """What happened, in words for people; empty if nothing went wrong."""
        return self._look.state.detail if self._look else ""

    @property
    def attempts(self) -> int:
        """How many HTTP exchanges were begun for this record, segments not counted."""
        return self._look.state.attempts if self._look else 0

    @property
    def look(self) -> RecordLook | None:
        """All that was seen of the record when it was last looked at."""
        return self._look

    async def refresh(self) -> BackgroundFetchRecord:
        """Look at the record now; returns itself.

        Raises:
            InvalidState: the records are released.
        """
        self._look = await self._reader.look(self._keys, self._index)
        return self

    async def _response(self) -> Response:
        while True:
            before = self._fetch.state.progress
            look = self._look = await self._reader.look(self._keys, self._index)
            if not look.outcome.exposed:
                raise unexposed(look, self._request.url)
            if look.state.head is not None and self._may_show(look):
                return Response(self._reader, self._keys, self._index, look.state)
            await self._wait(before)

    def _may_show(self, look: RecordLook) -> bool:
        if look.outcome is not RecordResult.OPEN or not self._request.integrity:
            return True
        return parse_integrity(self._request.integrity) is None

    async def _wait(self, before: Progress) -> None:
        # A head may arrive without a byte of progress, so look again soon as well.
        try:
            async with asyncio.timeout(0.25):
                await self._fetch.changed(since=before)
        except TimeoutError:
            return


class _Ready:
    def __init__(self, record: BackgroundFetchRecord) -> None:
        self._record = record

    def __await__(self) -> Generator[Any, Any, Response]:
        return self._record._response().__await__()
