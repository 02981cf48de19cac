"""Request bodies on their way out: from the message, or read from their blob (R4)."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from anyio import CapacityLimiter, to_thread

from broker.store import BlobReader, BlobStore, Congested
from broker.tasks import cancel_all
from schemas.bodies import StoredBody
from schemas.errors import StorageError
from schemas.requests import Request
from workers.exchange import Body

if TYPE_CHECKING:
    from hashlib import _Hash as Hash


class Elsewhere(Exception):
    """The body is on a store that this process does not have."""


@asynccontextmanager
async def opened(
    request: Request, store: BlobStore, threads: CapacityLimiter | None = None
) -> AsyncIterator[Body]:
    """Have the body of a request open for the block.

    Raises:
        Elsewhere: another store has it.
        StorageError: it is missing there, or not as long as it was.
    """
    body = request.body
    if not isinstance(body, StoredBody):
        yield InlineUpload(request.content)
        return
    if body.store != store.id:
        raise Elsewhere(
            f"the body is on blob store {body.store}, this worker has {store.id} "
            f"({store.place}): give it the producer's BGFETCH_STORE"
        )
    with store.reader(body.name) as blob:
        upload = BlobUpload(body, blob, threads)
        try:
            await upload.check()
            upload.rewind()
            yield upload
        finally:
            await upload.aclose()


class InlineUpload:
    """A body from the request's own message."""

    def __init__(self, content: bytes) -> None:
        self.length = len(content)
        self._content = content
        self._at = 0

    def read(self, size: int) -> bytes:
        """Return the next bytes."""
        chunk = self._content[self._at : self._at + size]
        self._at += len(chunk)
        return chunk

    def rewind(self) -> None:
        """Begin again with the first byte."""
        self._at = 0


class BlobUpload:
    """A body read from its blob ahead of its transfer, and proved to be what it was.

    Blocks are read and hashed in a thread, since the store may be in a network. The
    length is checked before a byte is sent, the digest before the last block is, so
    that no origin takes a damaged body for a whole one (R6).
    """

    def __init__(
        self, body: StoredBody, blob: BlobReader, threads: CapacityLimiter | None
    ) -> None:
        """``threads`` are those that wait for a network; None for a disk."""
        self.length = body.length
        self._body = body
        self._blob = blob
        self._threads = threads
        self._tasks: set[asyncio.Task[None]] = set()

    async def check(self) -> None:
        """See that the blob is as long as the body.

        Raises:
            StorageError: it is not, or it is missing.
        """
        # Two bytes from the last one on are one byte, where the length is right.
        last = await self._in_thread(partial(self._blob.read_at, self.length - 1, 2))
        if len(last) != 1:
            raise self._damaged(f"it does not have {self.length} bytes")

    def rewind(self) -> None:
        """Begin again with the first byte."""
        for task in self._tasks:
            task.cancel()
        self._blocks = blocks = _Blocks()
        self._block = memoryview(b"")
        self._left = self.length
        self._tasks.add(asyncio.create_task(self._read_ahead(blocks)))

    def read(self, size: int) -> bytes:
        """Return the next bytes.

        Raises:
            Congested: they are still on their way from the store.
            StorageError: the blob cannot be read, or is not what was stored.
        """
        if self._left and not self._block:
            self._block = memoryview(self._blocks.take())
        chunk = bytes(self._block[:size])
        self._block = self._block[size:]
        self._left -= len(chunk)
        return chunk

    async def aclose(self) -> None:
        """Read nothing more."""
        await cancel_all(self._tasks)

    async def _read_ahead(self, blocks: _Blocks) -> None:
        digest, at = hashlib.sha256(), 0
        try:
            while at < self.length:
                block = await self._in_thread(partial(self._next, digest, at))
                at += len(block)
                await blocks.put(block)
        except StorageError as error:
            await blocks.put(error)

    def _next(self, digest: Hash, at: int) -> bytes:
        block = self._blob.read_at(at, min(self._blob.block, self.length - at))
        if not block:
            raise self._damaged(f"it ends after {at} of {self.length} bytes")
        digest.update(block)
        whole = at + len(block) == self.length
        if whole and digest.hexdigest() != self._body.sha256:
            raise self._damaged(f"its sha256 is not {self._body.sha256}")
        return block

    async def _in_thread(self, step: Callable[[], bytes]) -> bytes:
        # A thread that waits for a network is left to itself by those that leave.
        away = self._threads is not None
        return await to_thread.run_sync(
            step, abandon_on_cancel=away, limiter=self._threads
        )

    def _damaged(self, how: str) -> StorageError:
        return StorageError(f"the request's body {self._body.name} is damaged: {how}")


class _Blocks:
    """What was read and not yet sent: one block, while the next one is being read."""

    def __init__(self) -> None:
        self._ready: asyncio.Queue[bytes | StorageError] = asyncio.Queue(1)
        self._waiter: Callable[[], None] | None = None

    async def put(self, block: bytes | StorageError) -> None:
        """Wait until there is room, then have it taken."""
        await self._ready.put(block)
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter()

    def take(self) -> bytes:
        """Return the next block, or raise Congested, or what came instead of it."""
        try:
            block = self._ready.get_nowait()
        except asyncio.QueueEmpty:
            raise Congested(self._wait) from None
        if isinstance(block, StorageError):
            raise block
        return block

    def _wait(self, waiter: Callable[[], None]) -> None:
        self._waiter = waiter
