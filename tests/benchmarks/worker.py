"""A worker process of a benchmark: what ``bgfetch worker`` runs, without its logs.

It drains and leaves when its stdin closes, which happens even if its starter is killed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from broker.settings import Settings
from workers.engine import Engine
from workers.worker import run_worker


def _leave_with_the_starter() -> None:
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> int:
    """Work until told to leave; return the exit code."""
    settings = Settings.load()
    threading.Thread(target=_leave_with_the_starter, daemon=True).start()
    return run_worker(
        settings.found_redis(),
        lambda: Engine(settings),
        concurrency=settings.concurrency,
    )


if __name__ == "__main__":
    sys.exit(main())
