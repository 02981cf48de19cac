"""The blob store in a directory: parts while they grow, blobs once they are whole.

    <directory>/store-id        who this store is; checkpoints name it (R4)
    <directory>/tenants/<id>    a Redis whose fetches have bytes here (R16)
    <directory>/parts/<name>    bytes of one version of one record, still growing
    <directory>/blobs/<name>    the same file, whole and on disk

A part has one random name for life. It is created exclusively, written at the offset
that was proved, and never truncated, appended to or reused. When it is whole, it is
renamed from parts to blobs: the only step there is, so whoever makes it a second time,
be it a zombie or its successor, finds it done (R3, R16).
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Self

from broker import markers
from broker.durability import boot_id, sync_directory
from broker.parts import FilePart
from broker.reading import FileReader
from broker.store import BlobReader, Durability, Part, read_blocks
from schemas.errors import StorageError
from schemas.records import Checkpoint

__all__ = ["BlobReader", "DirectoryStore", "Durability", "Part", "read_blocks"]

_NAME = re.compile(r"[0-9a-f]{32}", re.ASCII)
# What opening a name answers that is not there, or is a link, directory or socket.
_NO_FILE = (errno.ENOENT, errno.ELOOP, errno.EISDIR, errno.ENXIO)
# O_NONBLOCK: a pipe that somebody put there must not hold us up.
_OPEN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class DirectoryStore:
    """Parts and blobs in one directory of one file system, shared by processes.

    Every method raises StorageError when the file system refuses, and blocks for as
    long as the file system does.
    """

    remote = False
    worth = 64 * 1024

    def __init__(
        self, directory: Path, *, id: str, durability: Durability = Durability.FULL
    ) -> None:
        self.id = id
        self.directory = directory
        self.place = os.fspath(directory)
        self._parts = os.path.join(directory, "parts")
        self._blobs = os.path.join(directory, "blobs")
        self._tenants = os.path.join(directory, "tenants")
        self._durability = durability
        self._boot = boot_id()

    @classmethod
    def open(cls, directory: Path, durability: Durability = Durability.FULL) -> Self:
        """Open the store in ``directory``, or found one there.

        Raises:
            StorageError: it cannot be written to; the message says why.
        """
        directory = directory.absolute()
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for place in ("parts", "blobs"):
                (directory / place).mkdir(mode=0o700, exist_ok=True)
            identity = markers.found(directory)
        except OSError as error:
            raise StorageError.from_os(error, error.filename or directory) from error
        return cls(directory, id=identity, durability=durability)

    def create(self, *, digest: bool = True) -> FilePart:
        """Begin a new part, under a name that was never used before."""
        name = os.urandom(16).hex()
        path = f"{self._parts}/{name}"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _OPEN, 0o600)
        except OSError as error:
            raise StorageError.from_os(error, path) from error
        return self._part(fd, name, 0, digest)

    def resume(self, checkpoint: Checkpoint, *, digest: bool = True) -> FilePart | None:
        """Go on with a part, or return None where its bytes cannot be relied upon.

        They can if this is the same store, the file has at least the checkpoint's
        length, and the host has not restarted since, where that matters (R4, R5). A
        part without a proved byte is nobody's but its maker's, whose version of the
        resource may be another one (R3).
        """
        if checkpoint.store != self.id or checkpoint.boot not in (None, self._boot):
            return None
        if checkpoint.length <= 0:
            return None
        fd = self._open_file(checkpoint.part, os.O_RDWR, checkpoint.length)
        if fd is None:
            return None
        return self._part(fd, checkpoint.part, checkpoint.length, digest)

    def finish(self, parts: Sequence[Part]) -> list[StorageError | None]:
        """Make whole parts into blobs, on disk as the store's durability demands.

        Returns for each part None or its own failure; one does not harm the others.
        Every part is closed. To be called in a thread.
        """
        sync = self._durability is not Durability.NONE
        outcomes: list[StorageError | None] = [None] * len(parts)
        # Each step for all parts before the next: the disk then gets their bytes
        # together, and their names in one transaction instead of one for each.
        steps: list[Callable[[FilePart], object]] = [FilePart.flush]
        if sync and len(parts) > 1:
            steps.append(FilePart.start_writeback)
        steps += [lambda part: part.seal(sync=sync), self._publish]
        files = [part for part in parts if isinstance(part, FilePart)]
        for step in steps:
            for index, file in enumerate(files):
                outcomes[index] = outcomes[index] or _failure(step, file)
        for part in parts:
            part.close()
        if sync and None in outcomes:
            failure = self._sync_directories()
            outcomes = [outcome or failure for outcome in outcomes]
        return outcomes

    def readable(self, stored: int, checkpoint: Checkpoint) -> int:
        """All that Redis acknowledges is in the file (R8)."""
        return stored

    def reader(self, name: str) -> FileReader:
        """Open a part or blob for reading; it stays readable if renamed or deleted."""
        path = f"{self._blobs}/{name}"
        fd = self._open_file(name, os.O_RDONLY)
        if fd is None:
            raise StorageError.from_os(FileNotFoundError(errno.ENOENT, "no file"), path)
        return FileReader(fd, path)

    def delete(self, names: Iterable[str]) -> None:
        """Delete parts and blobs; those that are gone already are no error.

        All are tried before the first failure is raised.
        """
        failure: StorageError | None = None
        for name in filter(_NAME.fullmatch, names):
            # In the order of the rename, so that a late one cannot slip through.
            for place in (self._parts, self._blobs):
                try:
                    os.unlink(f"{place}/{name}")
                except FileNotFoundError:
                    continue
                except OSError as error:
                    failure = failure or StorageError.from_os(error, f"{place}/{name}")
        if failure is not None:
            raise failure

    def discard(self, names: Iterable[str]) -> None:
        """Delete at once; what cannot be deleted is left to a sweep."""
        with suppress(StorageError):
            self.delete(names)

    def close(self) -> None:
        """Nothing is held."""

    def enrol(self, tenant: str) -> None:
        """Note for ever that the fetches of this Redis may have bytes here (R16)."""
        try:
            markers.enrol(self.directory, tenant)
        except OSError as error:
            raise StorageError.from_os(error, self._tenants) from error

    def tenants(self) -> frozenset[str]:
        """Every Redis that has enrolled here."""
        try:
            return markers.tenants(self.directory)
        except OSError as error:
            raise StorageError.from_os(error, self._tenants) from error

    def sweepable(self, older_than: timedelta) -> Iterator[str]:
        """Names of files not written to for so long: candidates for a sweep (R16).

        Nothing if the directory has meanwhile become another store. Ages are those
        that this host's clock gives.
        """
        try:
            if markers.read_id(self.directory) != self.id:
                return
            horizon = time.time() - older_than.total_seconds()
            for place in (self._blobs, self._parts):
                yield from markers.unchanged_since(horizon, place)
        except OSError as error:
            raise StorageError.from_os(error, error.filename or self._blobs) from error

    def _part(self, fd: int, name: str, length: int, digest: bool) -> FilePart:
        boot = None if self._durability is Durability.FULL else self._boot
        start = Checkpoint(store=self.id, part=name, length=length, boot=boot)
        return FilePart(fd, f"{self._parts}/{name}", start, digest=digest)

    def _open_file(self, name: str, flags: int, length: int = 0) -> int | None:
        """Open a regular file of at least ``length`` bytes, or return None."""
        if not _NAME.fullmatch(name):
            return None
        # Blobs once more: the rename may have come between the first two looks.
        for place in (self._blobs, self._parts, self._blobs):
            path = f"{place}/{name}"
            try:
                fd = os.open(path, flags | _OPEN)
                found = os.fstat(fd)
            except OSError as error:
                if error.errno in _NO_FILE:
                    continue
                raise StorageError.from_os(error, path) from error
            # A file with a second name may be somebody's: it is read, never written.
            ours = flags & os.O_ACCMODE == os.O_RDONLY or found.st_nlink <= 1
            if ours and stat.S_ISREG(found.st_mode) and found.st_size >= length:
                return fd
            os.close(fd)
        return None

    def _publish(self, part: FilePart) -> None:
        source, target = f"{self._parts}/{part.name}", f"{self._blobs}/{part.name}"
        try:
            os.rename(source, target)
        except FileNotFoundError as error:
            if not os.path.exists(target):
                raise StorageError.from_os(error, source) from error
        except OSError as error:
            raise StorageError.from_os(error, source) from error

    def _sync_directories(self) -> StorageError | None:
        for place in (self._blobs, self._parts):
            try:
                sync_directory(place)
            except OSError as error:
                return StorageError.from_os(error, place)
        return None


def _failure(step: Callable[[FilePart], object], part: FilePart) -> StorageError | None:
    try:
        step(part)
    except StorageError as error:
        return error
    return None
