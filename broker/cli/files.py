"""A directory for what is saved: nothing in it is touched."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from schemas.errors import StorageError


class Folder:
    """A directory for files that are new: nothing that exists is touched."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._numbers: dict[str, int] = {}

    def make(self) -> None:
        """Make the directory, unless there is one.

        Raises:
            StorageError: it cannot be made, or be written to.
        """
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError.from_os(error, self._directory) from error
        if not os.access(self._directory, os.W_OK):
            denied = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            raise StorageError.from_os(denied, self._directory)

    def reserve(self, name: str) -> Path:
        """Create an empty file with this name, or with a number added; return its path.

        A second ``a.mp3`` becomes ``a-2.mp3``, and so on.

        Raises:
            StorageError: the directory cannot be written to.
        """
        try:
            while True:
                path = self._directory / self._next(name)
                try:
                    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
                except FileExistsError:
                    continue
                return path
        except OSError as error:
            where = error.filename or self._directory
            raise StorageError.from_os(error, where) from error

    def _next(self, name: str) -> str:
        number = self._numbers[name] = self._numbers.get(name, 0) + 1
        stem, dot, suffix = name.rpartition(".")
        if not stem:
            stem, dot, suffix = name, "", ""
        return name if number == 1 else f"{stem}-{number}{dot}{suffix}"
