"""Parts and blobs as pieces: objects that each hold a range of bytes, and never change.

    parts/<name>/<start>-<end>    bytes of one version of one record (hexadecimal)

All writers of one part write the same version (R3), so that pieces of two writers may
overlap, but do not contradict each other: a zombie and its successor need no agreement.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple, Self

from broker.bucket import Bucket
from schemas.errors import StorageError
from schemas.messages import Message

BLOCK = 4 * 1024 * 1024
"""Bytes read at a time."""


class Piece(NamedTuple):
    """The range of bytes that one object holds."""

    start: int
    end: int


class Manifest(Message):
    """Makes a part a blob: written last, it names every piece."""

    length: int
    pieces: tuple[Piece, ...]


def path_of(name: str, piece: Piece) -> str:
    """Where a piece of a part is."""
    return f"parts/{name}/{piece.start:016x}-{piece.end:016x}"


def pieces_of(bucket: Bucket, name: str) -> list[Piece]:
    """Return the pieces of a part that are there now."""
    found: list[Piece] = []
    for listed in bucket.list(f"parts/{name}"):
        start, _, end = listed.path.rpartition("/")[2].partition("-")
        with suppress(ValueError):
            piece = Piece(int(start, 16), int(end, 16))
            if piece.end - piece.start == listed.size:
                found.append(piece)
    return found


def covering(pieces: Iterable[Piece]) -> list[Piece]:
    """Return pieces that cover the bytes from the first on, as far as they reach.

    In order, none of them in vain.
    """
    chosen: list[Piece] = []
    best = Piece(0, 0)
    reached = 0
    for piece in sorted(pieces):
        if piece.start > reached:
            if best.end <= reached:
                break
            chosen.append(best)
            reached = best.end
        if piece.start <= reached and piece.end > best.end:
            best = piece
    if best.end > reached and best.start <= reached:
        chosen.append(best)
    return chosen


class PieceReader:
    """Reads a part or blob piece by piece, while it grows or becomes whole."""

    block = BLOCK

    def __init__(self, bucket: Bucket, name: str) -> None:
        self._bucket = bucket
        self._name = name
        self._pieces: Sequence[Piece] = ()

    def read_at(self, offset: int, size: int) -> bytes:
        """Return up to ``size`` bytes from ``offset`` on; none at the end.

        Raises:
            StorageError: there is nothing of this name, or it cannot be read.
        """
        piece = self._find(offset)
        if piece is None:
            self._look()
            piece = self._find(offset)
        if piece is None or size <= 0:
            return b""
        wanted = min(size, piece.end - offset)
        return self._bucket.read(
            path_of(self._name, piece), offset - piece.start, wanted
        )

    def _find(self, offset: int) -> Piece | None:
        # Starts and ends of covering pieces both rise.
        at = bisect_right(self._pieces, offset, key=lambda piece: piece.end)
        found = self._pieces[at] if at < len(self._pieces) else None
        return found if found and found.start <= offset else None

    def _look(self) -> None:
        manifest = self._bucket.get(f"blobs/{self._name}")
        if manifest is not None:
            self._pieces = Manifest.decode(manifest).pieces
            return
        self._pieces = covering(pieces_of(self._bucket, self._name))
        if not self._pieces:
            raise StorageError(f"ENOENT: no blob {self._name} in {self._bucket.place}")

    def close(self) -> None:
        """Nothing is held."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
