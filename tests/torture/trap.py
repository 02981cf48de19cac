"""Makes a process stop in the middle of a handler, as a long pause at the worst moment.

Two files in a folder that all processes know: ``trap``, which the first handler to
begin takes away, and ``caught``, which then tells whose it was.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path


class Trap:
    """Catches one handler at a time; set by the torture, met by its consumers."""

    def __init__(self, directory: Path) -> None:
        self._set = directory / "trap"
        self._caught = directory / "caught"

    def set(self) -> None:
        """Catch the next handler that begins."""
        self._set.touch()

    def withdraw(self) -> bool:
        """Catch none any more; False if one was caught, or is about to be."""
        return _taken(self._set)

    def caught(self) -> tuple[int, str] | None:
        """The process that stopped, and the delivery that it was to handle."""
        with suppress(FileNotFoundError):
            process, delivery = self._caught.read_text().split(" ")
            return int(process), delivery
        return None

    def release(self) -> None:
        """Let others handle to its end what was caught."""
        self._caught.unlink(missing_ok=True)

    def meet(self, delivery: str) -> bool:
        """Stop this process here if the trap is set; True once it was woken."""
        if not _taken(self._set):
            return False
        told = self._caught.with_suffix(".tmp")
        told.write_text(f"{os.getpid()} {delivery}")
        told.rename(self._caught)
        os.kill(os.getpid(), signal.SIGSTOP)
        return True

    def keeps(self, delivery: str) -> bool:
        """Whether another process stopped that was to handle this."""
        caught = self.caught()
        return caught is not None and caught[1] == delivery and caught[0] != os.getpid()


def _taken(path: Path) -> bool:
    """Take the file away; False if another did, or it was not there."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True
