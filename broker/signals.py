"""Signals that ask a process to end: the first politely, a second at once."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterable
from types import FrameType

ECHO_SECONDS = 1.0
"""A terminal, a parent and ``timeout`` may each pass on one and the same Ctrl-C."""


def on_first_signal(
    signals: Iterable[signal.Signals], act: Callable[[signal.Signals], object]
) -> None:
    """Call ``act`` on the running loop with the first of ``signals`` that arrives.

    One that comes more than a second later ends the process at once, with exit code
    128 and the signal's number, even while something blocks the loop.
    """
    loop = asyncio.get_running_loop()
    first_at: list[float] = []
    acted: list[signal.Signals] = []

    def hear(number: int, frame: FrameType | None) -> None:
        if not first_at:
            first_at.append(time.monotonic())
        elif time.monotonic() - first_at[0] > ECHO_SECONDS:
            os._exit(128 + number)

    def act_once(number: signal.Signals) -> None:
        if not acted:
            acted.append(number)
            act(number)

    for number in signals:
        # The loop hears of a signal once it runs, and forgets its handlers when it is
        # closed; Python's own handler is called between any two instructions.
        loop.add_signal_handler(number, act_once, number)
        signal.signal(number, hear)
