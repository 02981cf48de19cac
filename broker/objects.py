"""The blob store in a bucket of S3, Google Cloud Storage or Azure.

    <prefix>/store-id                    who this store is; checkpoints name it (R4)
    <prefix>/tenants/<id>                a Redis whose fetches have bytes here (R16)
    <prefix>/parts/<name>/<start>-<end>  a piece: bytes of one version of one record
    <prefix>/blobs/<name>                written last: the pieces of a whole blob

Objects never change, so nothing is ever locked. Bytes are kept by the server once it
has answered: there is no weaker durability (R5), and every machine may resume (R4).
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import groupby
from typing import Self

from broker.bucket import QUICK, Bucket
from broker.budget import Budget
from broker.gathering import PiecePart
from broker.pieces import Manifest, Piece, PieceReader, covering, pieces_of
from broker.store import Part
from broker.threads import Threads
from schemas.errors import StorageError
from schemas.records import Checkpoint

THREADS = 16
"""Uploads at a time in one process."""
_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)


class ObjectStore:
    """Parts and blobs as objects below one prefix, shared by any number of machines.

    See ``broker.store.BlobStore``.
    """

    remote = True
    worth = 1024 * 1024

    def __init__(self, bucket: Bucket, *, id: str) -> None:
        self.id = id
        self.place = bucket.place
        self._bucket = bucket
        self._budget = Budget()
        self._threads = Threads(THREADS, "uploads")

    @classmethod
    def open(cls, url: str) -> Self:
        """Open the store at ``url``, or found one there.

        Raises:
            ConfigError: ``url`` is not that of an object store.
            StorageError: it cannot be reached, or refuses; the message says why.
        """
        bucket = Bucket(url, retries=QUICK)
        found = bucket.get("store-id")
        if found is None:
            # Of several that found it at once, one succeeds.
            bucket.create("store-id", secrets.token_hex(16).encode())
            found = bucket.get("store-id") or b""
        identity = found.decode(errors="replace").strip()
        if not _ID.fullmatch(identity):
            raise StorageError(
                f"not the id of a blob store: {identity!r} in {bucket.place}/store-id"
            )
        return cls(Bucket(url), id=identity)

    def close(self) -> None:
        """Have nobody wait any more; what is not uploaded by now fails."""
        self._threads.close()
        self._budget.close()

    def create(self, *, digest: bool = True) -> PiecePart:
        """Begin a new part; nothing is stored until there are bytes."""
        start = Checkpoint(store=self.id, part=secrets.token_hex(16), length=0)
        return self._part(start, digest=digest)

    def resume(
        self, checkpoint: Checkpoint, *, digest: bool = True
    ) -> PiecePart | None:
        """Go on with a part, or return None where not all its bytes are here (R4)."""
        name, length = checkpoint.part, checkpoint.length
        if checkpoint.store != self.id or length <= 0 or not _ID.fullmatch(name):
            return None
        found = pieces_of(self._bucket, name)
        pieces = covering(piece for piece in found if piece.end <= length)
        if not pieces or pieces[-1].end != length:
            return None
        start = replace(checkpoint, boot=None)
        return self._part(start, pieces, digest=digest)

    def _part(
        self, start: Checkpoint, pieces: Iterable[Piece] = (), *, digest: bool
    ) -> PiecePart:
        return PiecePart(
            self._bucket, self._budget, self._threads, start, pieces, digest=digest
        )

    def finish(self, parts: Sequence[Part]) -> list[StorageError | None]:
        """Upload what is left of whole parts, then what makes them blobs."""
        own = [part for part in parts if isinstance(part, PiecePart)]
        for part in own:
            part.send()
        # Waited for here: the threads that would wait are those that upload.
        whole = [_failure(part.complete) for part in own]
        manifests = [
            None if failure else self._threads.submit(self._publish, part)
            for part, failure in zip(own, whole, strict=True)
        ]
        for part in own:
            part.close()
        return [
            failure if manifest is None else _failure(manifest.result)
            for failure, manifest in zip(whole, manifests, strict=True)
        ]

    def _publish(self, part: PiecePart) -> None:
        manifest = Manifest(length=part.length, pieces=tuple(part.pieces))
        self._bucket.put(f"blobs/{part.name}", manifest.encode())

    def readable(self, stored: int, checkpoint: Checkpoint) -> int:
        """What is acknowledged as uploaded: the rest is in a worker's memory (R8)."""
        return checkpoint.length

    def reader(self, name: str) -> PieceReader:
        """Read a part or blob; whether it is there shows when it is read."""
        return PieceReader(self._bucket, name)

    def delete(self, names: Iterable[str]) -> None:
        """Delete parts and blobs; those that are gone already are no error."""
        wanted = [name for name in names if _ID.fullmatch(name)]
        deletions = [self._threads.submit(self._delete, name) for name in wanted]
        outcomes = [_failure(deletion.result) for deletion in deletions]
        for failure in filter(None, outcomes):
            raise failure

    def discard(self, names: Iterable[str]) -> None:
        """Delete in another thread; what cannot be deleted is left to a sweep."""
        for name in filter(_ID.fullmatch, names):
            self._threads.submit(self._delete, name)

    def _delete(self, name: str) -> None:
        # The manifest first: a blob is whole, or it is none.
        pieces = [listed.path for listed in self._bucket.list(f"parts/{name}")]
        self._bucket.delete([f"blobs/{name}"])
        self._bucket.delete(pieces)

    def enrol(self, tenant: str) -> None:
        """Note for ever that the fetches of this Redis may have bytes here (R16)."""
        self._bucket.put(f"tenants/{tenant}", b"")

    def tenants(self) -> frozenset[str]:
        """Every Redis that has enrolled here."""
        found = self._bucket.list("tenants")
        return frozenset(listed.path.rpartition("/")[2] for listed in found)

    def sweepable(self, older_than: timedelta) -> Iterator[str]:
        """Names without an object written in so long, by the server's clock (R16)."""
        if self._bucket.get("store-id") != self.id.encode():
            return
        horizon = time.time() - older_than.total_seconds()
        for place in ("parts", "blobs"):
            listed = self._bucket.list(place)
            for name, objects in groupby(listed, lambda each: each.path.split("/")[1]):
                written = max(each.written for each in objects)
                if written < horizon and _ID.fullmatch(name):
                    yield name


def _failure(step: Callable[[], object]) -> StorageError | None:
    try:
        step()
    except StorageError as error:
        return error
    return None
