"""The demo's own directory: gone at the end, or at the next start if it was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "bgfetch-demo-"
LOCK = "demo.lock"
"""Locked by the demo that uses the directory; without it nobody may remove that."""


@contextmanager
def directory(*, keep: bool) -> Iterator[Path]:
    """Make a directory that is removed with all that is in it, unless ``keep``."""
    _sweep(Path(tempfile.gettempdir()))
    place = Path(tempfile.mkdtemp(prefix=PREFIX))
    if keep:
        yield place
        return
    draft = place / f"{LOCK}.draft"
    try:
        with draft.open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            draft.rename(place / LOCK)  # under its name it is always locked
            yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _sweep(parent: Path) -> None:
    """Remove what demos left behind that had no moment to do so themselves."""
    for path in parent.glob(f"{PREFIX}*/{LOCK}"):
        try:
            with path.open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(lock.fileno()).st_uid == os.getuid():
                    shutil.rmtree(path.parent, ignore_errors=True)
        except OSError:  # it is in use, or another user's
            continue
