"""When bytes and names are on the medium, and what a restart makes void (R5)."""

from __future__ import annotations

import fcntl
import os
import secrets
import sys
from pathlib import Path


def sync_file(fd: int) -> None:
    """Return when the bytes of a file are on the medium, not only on their way."""
    if sys.platform == "darwin":
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)  # fsync stops at the drive's own cache
    else:
        os.fdatasync(fd)


def sync_directory(path: str) -> None:
    """Return when the names in a directory are on the medium."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def boot_id() -> str:
    """Return a word that every process gets until the host restarts, and none after.

    Where the system has none, a word of this store object's own: then only it can
    resume what was not forced to disk.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return secrets.token_hex(16)
