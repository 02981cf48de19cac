"""Signals that ask a process to end: the first politely, a second at once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterable

ECHO_SECONDS = 1.0
"""A terminal, a parent and ``timeout`` may each pass on one and the same Ctrl-C."""


def on_first_signal(
    signals: Iterable[signal.Signals], act: Callable[[signal.Signals], object]
) -> None:
    """Call ``act`` on the running loop with the first of ``signals`` that arrives.

    One that comes more than a second later ends the process at once, with exit code
    128 and the signal's number.
    """
    loop = asyncio.get_running_loop()
    first_at: list[float] = []

    def hear(number: signal.Signals) -> None:
        if not first_at:
            first_at.append(loop.time())
            act(number)
        elif loop.time() - first_at[0] > ECHO_SECONDS:
            os._exit(128 + number)

    for number in signals:
        loop.add_signal_handler(number, hear, number)
