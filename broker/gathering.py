"""A part whose bytes are gathered in memory, and uploaded in pieces."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable
from dataclasses import replace

from broker.bucket import Bucket
from broker.budget import Budget
from broker.pieces import BLOCK, Piece, PieceReader, path_of
from broker.store import Congested, Decode
from broker.threads import Threads
from schemas.errors import StorageError
from schemas.records import Checkpoint

PIECE = 8 * 1024 * 1024
"""Bytes gathered before they are uploaded, unless memory runs short earlier."""


class PiecePart:
    """Gathers bytes in memory, and uploads them piece by piece in threads (R3).

    See ``broker.store.Part``. What was uploaded without a gap from the first byte on is
    what a checkpoint names and what others may read.
    """

    def __init__(
        self,
        bucket: Bucket,
        budget: Budget,
        threads: Threads,
        start: Checkpoint,
        pieces: Iterable[Piece] = (),
        *,
        digest: bool,
    ) -> None:
        self.name = start.part
        self.length = start.length
        self.ahead = 0
        self.pieces = list(pieces)
        self._bucket = bucket
        self._budget = budget
        self._threads = threads
        self._start = start
        # As they came: joining them would cost memory twice, for no fewer system calls.
        self._chunks: list[bytes] = []
        self._gathered = 0
        self._uploaded = start.length
        self._ahead: dict[int, Piece] = {}
        """Uploaded pieces that follow a gap, by their start."""
        self._pending = 0
        self._changed = threading.Condition()
        self._failure: StorageError | None = None
        self._closed = False
        self._hash = hashlib.sha256() if digest else None
        self._hashed = 0
        budget.enter(self)

    def write(self, chunk: bytes) -> None:
        """Accept the next bytes, as soon as there is memory for them."""
        while not self._budget.take(len(chunk)):
            free = threading.Event()
            self._budget.wait(free.set)
            free.wait()
        self._accept(chunk)

    def offer(self, chunk: bytes) -> None:
        """Accept the next bytes if there is memory for them, else raise Congested."""
        if not self._budget.take(len(chunk)):
            raise Congested(self._budget.wait)
        self._accept(chunk)

    def _accept(self, chunk: bytes) -> None:
        try:
            if self._hashed < self._start.length:
                self.rehash()
            self._check()
        except StorageError:
            self._budget.free(len(chunk))
            raise
        if self._hash is not None:
            self._hash.update(chunk)
            self._hashed += len(chunk)
        with self._changed:
            self._chunks.append(chunk)
            self._gathered += len(chunk)
            self.length += len(chunk)
            full = self._gathered >= PIECE
        if full:
            self.send()

    @property
    def held(self) -> int:
        """Bytes that are gathered, and not on their way."""
        return self._gathered

    def send(self) -> None:
        """Begin to upload what was gathered, in another thread."""
        with self._changed:
            chunks, self._chunks = self._chunks, []
            size, self._gathered = self._gathered, 0
            if size and not self._closed:
                self._pending += 1
                piece = Piece(self.length - size, self.length)
                self._budget.sending(size)
                self._threads.submit(self._upload, piece, chunks)
                return
        self._budget.free(size)

    def _upload(self, piece: Piece, chunks: list[bytes]) -> None:
        size = piece.end - piece.start
        try:
            if not self._closed and self._failure is None:
                self._bucket.put(path_of(self.name, piece), chunks)
                self._note(piece)
        except StorageError as error:
            self._failure = self._failure or error
        finally:
            chunks.clear()
            self._budget.sending(-size)
            self._budget.free(size)
            with self._changed:
                self._pending -= 1
                self._changed.notify_all()

    def _note(self, piece: Piece) -> None:
        with self._changed:
            self._ahead[piece.start] = piece
            while (next_ := self._ahead.pop(self._uploaded, None)) is not None:
                self.pieces.append(next_)
                self._uploaded = next_.end

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def flush(self) -> int:
        """Return the length that is uploaded without a gap, and wait for nothing."""
        self._check()
        return self._uploaded

    @property
    def _idle(self) -> bool:
        """Whether nothing more will be uploaded by itself."""
        return self._closed or self._failure is not None or not self._pending

    def checkpoint(self) -> Checkpoint:
        """Upload what was accepted before this call, and tell how far that reaches."""
        self.send()
        goal = self.length
        with self._changed:
            self._changed.wait_for(lambda: self._uploaded >= goal or self._idle)
        self._check()
        return replace(self._start, length=self._uploaded)

    def complete(self) -> None:
        """Return when every accepted byte is uploaded."""
        if self.checkpoint().length < self.length:
            raise StorageError(f"EBADF: {self.name} was closed before it was whole")

    def rehash(self) -> None:
        """Read what a predecessor uploaded, a block at a time (R6)."""
        reader = self._reader()
        while self._hash is not None and self._hashed < self._start.length:
            wanted = min(BLOCK, self._start.length - self._hashed)
            block = reader.read_at(self._hashed, wanted)
            if not block:
                raise StorageError(f"EIO: {self.name} is shorter than its checkpoint")
            self._hash.update(block)
            self._hashed += len(block)

    def _reader(self) -> PieceReader:
        return PieceReader(self._bucket, self.name)

    def digest_in(self, algorithm: str, decode: Decode | None = None) -> bytes:
        """Return a digest of all accepted bytes; see ``broker.store.Part``."""
        if decode is None and algorithm == "sha256" and self._hash is not None:
            self.rehash()
            return self._hash.digest()
        digest, at, reader = hashlib.new(algorithm), 0, self._reader()
        end = self.checkpoint().length
        while at < end:
            block = reader.read_at(at, min(BLOCK, end - at))
            at += len(block)
            for part in (block,) if decode is None else decode(block):
                digest.update(part)
        return digest.digest()

    @property
    def digest(self) -> str:
        """The sha256 of all accepted bytes, hexadecimal.

        Raises:
            RuntimeError: some are not hashed: no true answer exists.
        """
        if self._hash is None or self._hashed != self.length:
            raise RuntimeError(f"{self._hashed} of {self.length} bytes are hashed")
        return self._hash.hexdigest()

    def close(self) -> None:
        """Let the part go; what was not uploaded is lost. May be repeated."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._budget.leave(self)
        self.send()  # which gives the memory back
