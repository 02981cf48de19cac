"""Writing the files of a store in a directory."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from broker.durability import sync_file
from broker.reading import BLOCK
from broker.spans import Spans
from broker.store import Decode
from schemas.errors import StorageError
from schemas.records import Checkpoint

BUFFER = 512 * 1024
"""Bytes gathered before they are written: libcurl hands over 16 KiB at a time."""
_MOST_BUFFERS = 1024  # what one pwritev takes (IOV_MAX)
_STEP = 64
"""Blocks that are read back in one go: a cancelled transfer waits for no more."""


class FilePart:
    """Bytes of one version, written once, in order and from the first on (R3).

    Bytes may also be ``put`` at their place, ahead of others; the length says nothing
    of them until all before them are there.

    One task owns a part: it alone calls ``write``. Meanwhile one thread may be in
    ``flush`` or ``checkpoint``, and one in ``catch_up``; ``rehash``, ``close`` and the
    store's ``finish`` need the part to themselves. A part that failed once fails for
    good, since the kernel reports a lost write once only: resume from its last
    checkpoint, or begin again.

    Every method raises StorageError when the disk refuses.
    """

    __slots__ = (
        "_behind",
        "_chunks",
        "_failure",
        "_fd",
        "_flushed",
        "_hash",
        "_hashed",
        "_path",
        "_start",
        "_writing",
        "ahead",
        "length",
        "name",
        "spans",
    )

    def __init__(self, fd: int, path: str, start: Checkpoint, *, digest: bool) -> None:
        self.name = start.part
        self.length = start.length
        """Bytes accepted, from the first on; the latest may still be in memory."""
        self.spans = Spans()
        """Where bytes are stored beyond the length."""
        self.ahead = 0
        """How many they are."""
        self._fd = fd
        self._path = path
        self._start = start
        self._flushed = start.length
        self._hash = hashlib.sha256() if digest else None
        self._hashed = 0
        self._behind = False
        self._failure: StorageError | None = None
        # A deque gives and takes atomically, so that write() needs no lock and waits
        # for a thread's flush only when the buffer is full.
        self._chunks: deque[bytes] = deque()
        self._writing = threading.Lock()

    def write(self, chunk: bytes) -> None:
        """Accept the next bytes; they reach the file when the buffer is full."""
        self._chunks.append(chunk)
        self.length += len(chunk)
        if self.length - self._flushed >= BUFFER:
            self.flush()

    offer = write  # a disk is waited for

    def put(self, offset: int, blocks: Sequence[bytes]) -> None:
        """Store bytes at their place, at or beyond the length; nobody else has them.

        They are in the file on return, or the next bytes like those of ``write``.
        """
        if offset == self.length:
            for block in blocks:
                self.write(block)
        else:
            with self._writing:
                if self._failure is not None:
                    raise self._failure
                try:
                    size = self._write_at(offset, blocks)
                except OSError as error:
                    raise self._fail(error) from error
            self.spans.add(offset, offset + size)
        self.join()

    def join(self) -> None:
        """Let the length grow over bytes that were put where it has arrived."""
        reached = self.spans.reached(self.length)
        if reached > self.length:
            self.flush()
            with self._writing:
                self.length = self._flushed = reached
                self._behind = self._hash is not None
        self.ahead = self.spans.size

    def flush(self) -> int:
        """Write the buffer to the file; return the length that other processes see."""
        if self._flushed == self.length and self._failure is None:
            return self._flushed  # without waiting for a thread that reads all of it
        with self._writing:
            if self._failure is not None:
                raise self._failure
            blocks = [self._chunks.popleft() for _ in range(len(self._chunks))]
            if blocks:
                try:
                    self._append(blocks)
                except OSError as error:
                    raise self._fail(error) from error
            return self._flushed

    def checkpoint(self) -> Checkpoint:
        """Flush, and tell where the bytes are, in words that a successor can check.

        With full durability the bytes are on disk when this returns; otherwise the
        checkpoint is void once the host has restarted (R5). May take as long as the
        disk does: call it in a thread.
        """
        length = self.flush()
        if self._start.boot is None:
            try:
                sync_file(self._fd)
            except OSError as error:
                raise self._fail(error) from error
        return replace(self._start, length=length)

    def rehash(self) -> None:
        """Read the bytes of a predecessor back, so that the digest covers them (R6).

        To be called in a thread after ``resume``, before the first ``write``, which
        otherwise does it where it stands. Blocks for as long as reading takes.
        """
        with self._writing:
            try:
                self._hash_prefix()
            except OSError as error:
                raise self._fail(error) from error

    @property
    def behind(self) -> bool:
        """Whether the length grew over bytes that ``catch_up`` has yet to hash."""
        return self._behind

    def catch_up(self) -> bool:
        """Read back some of what was put, for the digest (R6); True if that is all.

        To be called in a thread, again and again; bytes may arrive meanwhile.
        """
        for _ in range(_STEP):
            with self._writing:
                if self._hash is None or self._hashed == self._flushed:
                    self._behind = False
                    return True
            try:
                block = self._read(self._hashed)
            except OSError as error:
                raise self._fail(error) from error
            self._hash.update(block)
            self._hashed += len(block)
        return False

    def digest_in(self, algorithm: str, decode: Decode | None = None) -> bytes:
        """Return the digest of all accepted bytes under an algorithm of hashlib's.

        With ``decode``, of what it makes of them, block by block.

        To be called in a thread, while nobody writes: sha256 is at hand once the
        buffer is flushed, for others everything is read back.
        """
        self.flush()
        if decode is None and algorithm == "sha256" and self._hash is not None:
            self.rehash()
            return self._hash.digest()
        digest, at = hashlib.new(algorithm), 0
        while at < self._flushed:
            try:
                block = self._read(at)
            except OSError as error:
                raise self._fail(error) from error
            at += len(block)
            for piece in (block,) if decode is None else decode(block):
                digest.update(piece)
        return digest.digest()

    @property
    def digest(self) -> str:
        """The sha256 of all accepted bytes, hexadecimal, once they are in the file.

        Raises:
            RuntimeError: bytes are not flushed, or not hashed: no true answer exists.
        """
        if self._hash is None or self._hashed != self.length:
            raise RuntimeError(f"{self._hashed} of {self.length} bytes are hashed")
        return self._hash.hexdigest()

    def close(self) -> None:
        """Let the file go; what was not flushed is lost. May be repeated."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            # What a thread writes now must not land in a file that gets this number.
            with self._writing, suppress(OSError):
                os.close(fd)

    def start_writeback(self) -> None:
        """Ask the kernel to begin writing now, so that a later sync waits less."""
        # The only call that starts write-out without waiting for it; dirty pages stay
        # in the cache. Large parts are left alone: they would lose clean ones.
        if sys.platform != "darwin" and self.length <= BUFFER:
            with suppress(OSError):
                os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def seal(self, *, sync: bool) -> None:
        """Force the bytes to disk and close the file; the name is next to change."""
        try:
            if self._behind:
                self._hash_prefix()
            if sync:
                sync_file(self._fd)
            # A network file system may report a lost write as late as here.
            fd, self._fd = self._fd, -1
            os.close(fd)
        except OSError as error:
            raise self._fail(error) from error

    def _append(self, blocks: list[bytes]) -> None:
        if not self._behind:
            self._hash_prefix()
        size = self._write_at(self._flushed, blocks)
        if self._hash is not None and not self._behind:
            for block in blocks:
                self._hash.update(block)
            self._hashed += size
        self._flushed += size

    def _write_at(self, offset: int, blocks: Sequence[bytes]) -> int:
        size = sum(map(len, blocks))
        done = os.pwritev(self._fd, blocks[:_MOST_BUFFERS], offset)
        if done < size:  # a short write, or more chunks than one call takes (R6)
            rest = memoryview(b"".join(blocks))
            while done < size:
                done += os.pwrite(self._fd, rest[done:], offset + done)
        return size

    def _hash_prefix(self) -> None:
        while self._hash is not None and self._hashed < self._flushed:
            block = self._read(self._hashed)
            self._hash.update(block)
            self._hashed += len(block)

    def _read(self, at: int) -> bytes:
        block = os.pread(self._fd, min(BLOCK, self._flushed - at), at)
        if not block:
            raise OSError(errno.EIO, "shorter than its checkpoint")
        return block

    def _fail(self, error: OSError) -> StorageError:
        self._failure = StorageError.from_os(error, self._path)
        return self._failure
