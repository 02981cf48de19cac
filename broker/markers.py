"""What the directory of a blob store says of itself: who it is, and whose (R4, R16).

Functions raise OSError as the file system does.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from broker.durability import sync_directory
from schemas.errors import StorageError

_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def found(directory: Path) -> str:
    """Return the store's id, written now if there is none.

    Of several processes that try at once, one succeeds, and all get its answer.

    Raises:
        StorageError: the marker is damaged.
    """
    marker, fresh = directory / "store-id", secrets.token_hex(16)
    draft = directory / f"store-id.{fresh}"
    # Also where the marker exists: it shows whether the store can be written to.
    fd = os.open(draft, _NEW, 0o600)
    try:
        os.write(fd, fresh.encode())
        if not marker.exists():
            os.fsync(fd)
            with suppress(FileExistsError):
                os.link(draft, marker)
            sync_directory(os.fspath(directory))
    finally:
        os.close(fd)
        os.unlink(draft)
    identity = read_id(directory)
    if not _ID.fullmatch(identity):
        raise StorageError(f"not the id of a blob store: {identity!r} in {marker}")
    return identity


def read_id(directory: Path) -> str:
    """Return what the marker says now."""
    return (directory / "store-id").read_text(errors="replace").strip()


def enrol(directory: Path, tenant: str) -> None:
    """Write the mark of a tenant, unless it is there; it outlives a power cut."""
    place = directory / "tenants"
    place.mkdir(mode=0o700, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(place / tenant, _NEW, 0o600))
        sync_directory(os.fspath(place))
        sync_directory(os.fspath(directory))


def tenants(directory: Path) -> frozenset[str]:
    """Return the ids of all tenants."""
    with suppress(FileNotFoundError):
        return frozenset(os.listdir(directory / "tenants"))
    return frozenset()


def unchanged_since(horizon: float, place: str) -> Iterator[str]:
    """Yield the names of files not written to since then, by this host's clock."""
    with os.scandir(place) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # renamed or deleted meanwhile
                changed = entry.stat(follow_symlinks=False).st_mtime
                if changed < horizon and _ID.fullmatch(entry.name):
                    yield entry.name
