"""What a blob store is, whatever it is made of.

A *part* holds bytes of one version of one record while they grow; whole, it is a
*blob*. Its one name is random, and never used again. A *checkpoint* says how many bytes
of it a successor can rely on (R3, R4).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from enum import StrEnum
from types import TracebackType
from typing import Protocol, Self

from anyio import to_thread

from schemas.errors import StorageError
from schemas.records import Checkpoint

Decode = Callable[[bytes], Iterable[bytes]]


class Durability(StrEnum):
    """When bytes are forced to the medium (R5)."""

    FULL = "full"
    """At every checkpoint, and before a record succeeds: a power cut loses nothing."""
    BOOT = "boot"
    """Before a record succeeds; an unfinished one starts over after a power cut."""
    NONE = "none"
    """Never: a power cut may lose finished bytes whose success was published."""


class Congested(Exception):
    """These bytes were not taken, for want of memory: offer them again later."""

    def __init__(self, wait: Callable[[Callable[[], None]], None]) -> None:
        super().__init__("too many bytes wait for the store")
        self.wait = wait
        """Has a function called once, in any thread, when there is room again."""


class Part(Protocol):
    """Bytes of one version, written once, in order and from the first on (R3).

    One task owns a part: it alone calls ``write`` and ``offer``. Meanwhile one thread
    may be in ``flush`` or ``checkpoint``; ``rehash``, ``close`` and the store's
    ``finish`` need the part to themselves. A part that failed once fails for good:
    resume from its last checkpoint, or begin again.

    Every method raises StorageError when the store refuses.
    """

    name: str
    length: int
    """Bytes accepted, from the first on; the latest may still be in memory."""
    ahead: int
    """Bytes stored beyond the length, after others that are missing."""

    def write(self, chunk: bytes) -> None:
        """Accept the next bytes. May block for as long as storing some takes."""

    def offer(self, chunk: bytes) -> None:
        """Accept the next bytes without waiting for a network, or raise Congested."""

    def flush(self) -> int:
        """Return the length that other processes see, having made it what it can be.

        Never waits for a network.
        """

    def checkpoint(self) -> Checkpoint:
        """Store what was accepted, and tell where, in words a successor can check.

        May take as long as that does: call it in a thread.
        """

    def rehash(self) -> None:
        """Read the bytes of a predecessor back, so that the digest covers them (R6).

        To be called in a thread after ``resume``, before the first byte.
        """

    def digest_in(self, algorithm: str, decode: Decode | None = None) -> bytes:
        """Return the digest of all accepted bytes under an algorithm of hashlib's.

        With ``decode``, of what it makes of them, block by block.

        To be called in a thread, while nobody writes: sha256 is at hand, for others
        everything is read back.
        """

    @property
    def digest(self) -> str:
        """The sha256 of all accepted bytes, hexadecimal, once they are stored."""

    def close(self) -> None:
        """Let the part go; what was not stored is lost. May be repeated."""


class BlobReader(Protocol):
    """Reads one part or blob at any offset, while it grows or becomes whole.

    Only as many bytes as Redis acknowledges are the record's: the caller knows how
    many, the store does not (R8).
    """

    block: int
    """How many bytes to read at a time."""

    def read_at(self, offset: int, size: int) -> bytes:
        """Return up to ``size`` bytes from ``offset`` on; none at the end.

        Raises:
            StorageError: they cannot be read. To be called in a thread.
        """

    def close(self) -> None:
        """Let the blob go. May be repeated."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class BlobStore(Protocol):
    """Where bytes are kept, shared by any number of processes.

    Unless it says otherwise, a method raises StorageError when the store refuses, and
    blocks for as long as the store does: call it in a thread.
    """

    id: str
    """Names this very store for ever; checkpoints carry it (R4)."""
    place: str
    """Where it is, for people: a directory, or a URL without credentials."""
    remote: bool
    """Whether a step may take a network's time, rather than a disk's."""
    worth: int
    """New bytes of a record that are worth a checkpoint of their own."""

    def create(self, *, digest: bool = True) -> Part:
        """Begin a new part. Never waits for a network."""

    def resume(self, checkpoint: Checkpoint, *, digest: bool = True) -> Part | None:
        """Go on with a part, or return None where its bytes cannot be relied upon."""

    def finish(self, parts: Sequence[Part]) -> list[StorageError | None]:
        """Make whole parts into blobs that outlive a power cut.

        Returns for each part None or its own failure; one does not harm the others.
        Every part is closed.
        """

    def readable(self, stored: int, checkpoint: Checkpoint) -> int:
        """How far a record may be read of which Redis acknowledges so much (R8)."""

    def reader(self, name: str) -> BlobReader:
        """Open a part or blob for reading. Never waits for a network."""

    def delete(self, names: Iterable[str]) -> None:
        """Delete parts and blobs; those that are gone already are no error.

        All are tried before the first failure is raised.
        """

    def discard(self, names: Iterable[str]) -> None:
        """Delete as soon as may be; what cannot be deleted is left to a sweep.

        Raises nothing and never waits for a network.
        """

    def enrol(self, tenant: str) -> None:
        """Note for ever that the fetches of this Redis may have bytes here (R16)."""

    def tenants(self) -> frozenset[str]:
        """Every Redis that has enrolled here."""

    def sweepable(self, older_than: timedelta) -> Iterator[str]:
        """Names of parts and blobs not written to for so long (R16).

        Nothing if the place has meanwhile become another store. A name may come twice.
        """

    def close(self) -> None:
        """Let go what the store holds in this process. May be repeated."""


async def read_blocks(
    reader: BlobReader, start: int, end: int, size: int = 0
) -> AsyncIterator[bytes]:
    """Yield the bytes from ``start`` to ``end``, reading each block in a thread.

    Raises:
        StorageError: there are fewer bytes than ``end``, or they cannot be read.
    """
    while start < end:
        wanted = min(size or reader.block, end - start)
        block = await to_thread.run_sync(reader.read_at, start, wanted)
        if not block:
            raise StorageError(f"the blob ends at {start}, before {end}")
        start += len(block)
        yield block
