"""Reading the files of a store in a directory."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self

from schemas.errors import StorageError

BLOCK = 1024 * 1024
"""Bytes read at a time."""


class FileReader:
    """Reads one file at any offset, while it grows, is renamed or deleted.

    Only as many bytes as Redis acknowledges are the record's: the caller knows how
    many, the file does not (R8).
    """

    block = BLOCK

    def __init__(self, fd: int, path: str) -> None:
        self._fd = fd
        self._path = path

    def read_at(self, offset: int, size: int) -> bytes:
        """Return up to ``size`` bytes from ``offset`` on; none at the file's end."""
        try:
            return os.pread(self._fd, size, offset)
        except OSError as error:
            raise StorageError.from_os(error, self._path) from error

    def close(self) -> None:
        """Let the file go. May be repeated."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
