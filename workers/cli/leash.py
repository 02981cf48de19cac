"""A child's end of its leash: it ends when its parent does, however that happens."""

from __future__ import annotations

import os
import signal
import threading
import time

from broker.cli.children import LEASH

PATIENCE = 60.0
"""Seconds between asking this process to end and ending it."""


def take_leash() -> None:
    """If a parent holds this process on a leash, end in order once it lets go."""
    told = os.environ.pop(LEASH, "")  # it is nobody else's
    if told.isdigit():
        os.set_inheritable(int(told), False)
        threading.Thread(target=_wait, args=(int(told),), daemon=True).start()


def _wait(leash: int) -> None:
    os.read(leash, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    os._exit(128 + signal.SIGTERM)
