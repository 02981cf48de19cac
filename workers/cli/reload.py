"""``--reload``, for development: a command that runs anew whenever its code changes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from broker.cli.children import Child, kept
from broker.cli.exits import ChildEnded, ExitCode, Interrupted
from broker.cli.local import answers, environment_of
from broker.cli.output import say
from broker.cli.running import run
from broker.settings import Settings

LOOK_SECONDS = 0.3
_NOT_OURS = frozenset(("__pycache__", "node_modules", "site-packages"))

Stamps = dict[str, tuple[int, int]]
"""Of each file, by its path below a directory: when it was written, and its size."""


def stamps(directory: Path) -> Stamps:
    """Tell when each Python file below ``directory`` was written.

    Left out are hidden directories, virtual environments, and what others installed.
    """
    found: Stamps = {}
    for path in _files(directory):
        try:
            status = os.stat(path)
        except OSError:  # gone meanwhile
            continue
        found[os.path.relpath(path, directory)] = status.st_mtime_ns, status.st_size
    return found


def _files(directory: Path) -> Iterator[str]:
    for place, below, names in os.walk(directory):
        below[:] = [name for name in below if name[0] != "." and name not in _NOT_OURS]
        if "pyvenv.cfg" in names:
            below.clear()
            continue
        yield from (f"{place}/{name}" for name in names if name.endswith(".py"))


async def changed(directory: Path, before: Stamps) -> list[str]:
    """Wait until files differ from ``before`` and are not being written any more."""
    now = before
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        last, now = now, stamps(directory)
        if now != before and now == last:
            pairs = before.items() ^ now.items()
            return sorted({path for path, _ in pairs})


def run_reloading(
    name: str, command: list[str], settings: Settings, directory: Path
) -> int:
    """Keep a command running until a signal; end and start it at every change.

    A command that can never run, as one whose code has an error, waits for a change.
    """
    url = settings.found_redis()
    child = Child(name, command, environment_of(settings, url), grace=settings.grace)

    async def keep() -> None:
        await answers(url)
        while True:
            before = stamps(directory)
            async with kept([child]) as [task]:
                files = asyncio.create_task(changed(directory, before))
                await asyncio.wait([task, files], return_when="FIRST_COMPLETED")
                if isinstance(task.done() and task.exception(), ChildEnded):
                    say(f"the {name} starts again when a file in {directory} changes")
                told = ", ".join(await files)
                say(f"changed: {told}; the {name} starts again")

    with suppress(Interrupted):
        run(keep())
    return ExitCode.OK
