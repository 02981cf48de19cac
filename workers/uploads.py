"""Request bodies on their way out: from the message, or read from their blob (R4)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from broker.store import BlobReader, BlobStore
from schemas.bodies import StoredBody
from schemas.errors import StorageError
from schemas.requests import Request
from workers.exchange import Body


class Elsewhere(Exception):
    """The body is on a store that this process does not have."""


@contextmanager
def opened(request: Request, store: BlobStore) -> Iterator[Body | None]:
    """Have the body of a request open for the block; None without one.

    Raises:
        Elsewhere: another store has it.
        StorageError: it is missing there, or not as long as it was.
    """
    body = request.body
    if not isinstance(body, StoredBody):
        yield None if body is None else InlineUpload(request.content)
        return
    if body.store != store.id:
        raise Elsewhere(
            f"the body is on blob store {body.store}, this worker has {store.id} "
            f"({store.place}): give it the producer's BGFETCH_STORE"
        )
    with store.reader(body.name) as blob:
        yield BlobUpload(body, blob)


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
    """A body read from its blob piece by piece, and proved to be what was stored.

    Its length is checked before a byte is sent, its digest before the last one is, so
    that no origin takes a damaged body for a whole one (R6).

    Raises:
        StorageError: it is not what was stored, or cannot be read.
    """

    def __init__(self, body: StoredBody, blob: BlobReader) -> None:
        self.length = body.length
        self._body = body
        self._blob = blob
        # Two bytes from the last one on are one byte, where the length is right.
        if len(blob.read_at(body.length - 1, 2)) != 1:
            raise self._damaged(f"it does not have {body.length} bytes")
        self.rewind()

    def read(self, size: int) -> bytes:
        """Return the next bytes."""
        left = self.length - self._at
        chunk = self._blob.read_at(self._at, min(size, left))
        if left and not chunk:
            raise self._damaged(f"it ends after {self._at} of {self.length} bytes")
        self._at += len(chunk)
        self._digest.update(chunk)
        if len(chunk) == left and self._digest.hexdigest() != self._body.sha256:
            raise self._damaged(f"its sha256 is not {self._body.sha256}")
        return chunk

    def rewind(self) -> None:
        """Begin again with the first byte."""
        self._at = 0
        self._digest = hashlib.sha256()

    def _damaged(self, how: str) -> StorageError:
        return StorageError(f"the request's body {self._body.name} is damaged: {how}")
