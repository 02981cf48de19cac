"""Bodies of requests in the blob store: put there by ``fetch()``, read by whoever may.

    deposit ──▶ parts, then blobs ──▶ named in the staged registration ──▶ registered

Until the last step nobody but the deposit names the blobs, and it deletes them if that
step is not reached. A producer that dies leaves blobs that no registration names: a
sweep finds them (R16). Registered, they live and go with the records.
"""

from __future__ import annotations

import secrets
from collections.abc import (
    AsyncIterator,
    Callable,
    Iterable,
)
from contextlib import aclosing, suppress
from dataclasses import replace
from types import TracebackType
from typing import Self

import anyio
from anyio import to_thread

from broker.keys import FetchKeys
from broker.records import RecordReader
from broker.sources import blocks_of, cancel
from broker.store import Part, read_blocks
from schemas.bodies import MAX_INLINE_BYTES, BodyStream, StoredBody
from schemas.errors import (
    BackgroundFetchError,
    QuotaExceeded,
    RejectedFetch,
    StorageError,
)
from schemas.requests import Request

FINISHED_TOGETHER = 32
"""Parts that may be open at a time; their bytes go to the disk together."""


def travels(request: Request) -> bool:
    """Whether a request goes into its message as it is."""
    body = request.body
    return body is None or (isinstance(body, bytes) and len(body) <= MAX_INLINE_BYTES)


def named_bodies(
    requests: Iterable[tuple[int, Request]],
) -> dict[int, str]:
    """Return which blob has the body of which request, as Redis keeps it."""
    return {
        at: f"{request.body.store}/{request.body.name}"
        for at, request in requests
        if isinstance(request.body, StoredBody)
    }


class Deposit:
    """The bodies of one registration: all of them in the store, or none.

    An asynchronous context manager: if the block ends with an error, what it stored is
    deleted. After ``offered`` is set only a refusal proves that nobody has the bodies;
    in doubt they stay.
    """

    def __init__(self, reader: RecordReader) -> None:
        self.offered = False
        self._reader = reader
        self._size = 0
        self._names: list[str] = []
        self._open: dict[int, tuple[Request, Part]] = {}
        self._kept: dict[int, Request] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None or not self._names:
            return
        if self.offered and not isinstance(error, RejectedFetch | QuotaExceeded):
            return
        with anyio.CancelScope(shield=True), suppress(StorageError):
            await to_thread.run_sync(self._discard)

    async def store(
        self, requests: list[Request], check: Callable[[int], None]
    ) -> None:
        """Read every body, and have ``requests`` carry or name it where it is now.

        Bodies are read one after another, each in bounded memory, off the event loop
        unless its source is asynchronous. If one fails, the streams that are left are
        closed (BF-FETCH-15). ``check`` hears how many bytes they have together.

        Raises:
            InvalidRequest: a body cannot be read, gives no bytes, or is used up.
            QuotaExceeded: the store is full, or ``check`` says so (BF-FETCH-16).
            StorageError: it refuses for another reason.
        """
        self._size = sum(request.upload_total for request in requests)
        left = {at: each for at, each in enumerate(requests) if not travels(each)}
        try:
            for index in list(left):
                await self._read(index, left.pop(index), check)
                if self._open and self._enough():
                    await self._finish()
            await self._finish()
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                for request in left.values():
                    await cancel(request)
            if isinstance(error, StorageError) and _is_full(error):
                raise QuotaExceeded(f"no room for the bodies: {error}") from error
            raise
        for index, request in self._kept.items():
            requests[index] = request

    async def _read(
        self, index: int, request: Request, check: Callable[[int], None]
    ) -> None:
        part, start = None, b""
        counted = not isinstance(request.body, BodyStream)
        async with aclosing(blocks_of(request)) as blocks:
            async for block in blocks:
                self._size += 0 if counted else len(block)
                check(self._size)
                if part is None:
                    start += block
                    if len(start) <= MAX_INLINE_BYTES:
                        continue
                    part = await self._begin(index, request)
                await to_thread.run_sync(part.write, start or block)
                start = b""
        if part is None:
            self._kept[index] = replace(request, body=start)

    async def _begin(self, index: int, request: Request) -> Part:
        store = await self._reader.writable_store()
        part = await to_thread.run_sync(store.create)
        self._names.append(part.name)
        self._open[index] = request, part
        return part

    def _enough(self) -> bool:
        # Where bytes go over a network, a part keeps a large piece of them in memory.
        return self._reader.store.remote or len(self._open) >= FINISHED_TOGETHER

    async def _finish(self) -> None:
        """Make what was read into blobs, on disk as far as settings ask for it."""
        done, self._open = self._open, {}
        if not done:
            return
        store, parts = self._reader.store, [part for _, part in done.values()]
        for failure in await to_thread.run_sync(store.finish, parts):
            if failure is not None:
                raise failure
        for index, (request, part) in done.items():
            body = StoredBody(
                store=store.id, name=part.name, length=part.length, sha256=part.digest
            )
            self._kept[index] = replace(request, body=body)

    def _discard(self) -> None:
        for _, part in self._open.values():
            part.close()
        self._reader.store.delete(self._names)


class StoredStream:
    """The stored body of one record's request; each iteration begins at its start.

    Raises:
        InvalidState: the records were released before reading began.
        StorageError: the bytes cannot be read here.
    """

    def __init__(
        self, reader: RecordReader, keys: FetchKeys, index: int, body: StoredBody
    ) -> None:
        self._reader = reader
        self._keys = keys
        self._index = index
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        name, body = secrets.token_hex(8), self._body
        await self._reader.look(self._keys, self._index, reader=name)
        try:
            here = await self._reader.open()
            if body.store != here.id:
                raise StorageError(
                    f"this body is on store {body.store}, this process has {here.id} "
                    f"({here.place}): set BGFETCH_STORE to where it was stored"
                )
            with here.reader(body.name) as blob:
                async for block in read_blocks(blob, 0, body.length):
                    yield block
                    # It lives as long as its reader's lease (R17).
                    await self._reader.look(self._keys, self._index, reader=name)
        finally:
            with suppress(BackgroundFetchError):
                await self._reader.close(self._keys, name)


def _is_full(error: StorageError) -> bool:
    return any(name in str(error) for name in ("ENOSPC", "EDQUOT"))
