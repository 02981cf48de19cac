"""A process that forks workers: one that is killed is replaced within milliseconds.

It has imported all that one needs and has no thread, so that a fork is safe. It
obeys lines on stdin: ``start {variables}`` answers with a process id, ``ended PID``
with an exit code, or nothing while the process runs. Everybody here leaves when the
pipe whose number is the argument closes, which happens even if its owner is killed.

``ROLE`` among the variables says what the process is, a worker of fetches by default.
``POINT`` is where such a one kills itself, ``POINTS`` a file to which one that leaves
in order writes how many points it has passed.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

import structlog
from structlog.dev import plain_traceback

from broker import scripts
from broker.settings import Settings
from schemas.errors import Unreachable
from tests.torture.consumer import consume
from tests.torture.publisher import publish
from tests.torture.seams import Seams
from workers.engine import Engine
from workers.worker import run_worker


def main(leash: int) -> None:
    """Fork workers on request until stdin closes."""
    for line in sys.stdin:
        word, _, rest = line.partition(" ")
        answer = _start(json.loads(rest), leash) if word == "start" else _ended(rest)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


def _start(variables: dict[str, str], leash: int) -> int:
    process = os.fork()
    if not process:
        code = 70
        try:
            code = _become(variables, leash)
        finally:
            os._exit(code)
    return process


def _ended(process: str) -> str:
    # A process that nobody has waited for keeps its id: no other can get its signals.
    try:
        found, status = os.waitpid(int(process), os.WNOHANG)
    except ChildProcessError:
        return "told before"
    return str(os.waitstatus_to_exitcode(status)) if found else ""


def _become(variables: dict[str, str], leash: int) -> int:
    def leave() -> None:
        os.read(leash, 1)
        os._exit(0)

    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    # The tracebacks that it shows otherwise take the event loop's time for seconds.
    told = structlog.dev.ConsoleRenderer(
        colors=False, exception_formatter=plain_traceback
    )
    structlog.configure(
        processors=[*structlog.get_config()["processors"][:-1], told],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    threading.Thread(target=leave, daemon=True).start()
    seams, points = Seams(int(variables.pop("POINT", -1))), variables.pop("POINTS", "")
    if points:
        seams.install()
    if "LUA" in variables:
        _take_scripts_from(Path(variables["LUA"]))
    os.environ.update(variables)
    match variables.get("ROLE"):
        case "consumer":
            return consume()
        case "publisher":
            return publish()
        case _:
            return _work(seams, points)


def _take_scripts_from(folder: Path) -> None:
    """Use other scripts than the broker's: ``folder`` is named ``lua``."""
    scripts.files = lambda package: folder.parent  # type: ignore[attr-defined]
    scripts.script.cache_clear()


def _work(seams: Seams, points: str) -> int:
    settings = Settings.load()
    while True:
        try:
            code = run_worker(
                settings.found_redis(),
                lambda: Engine(settings),
                concurrency=settings.concurrency,
                grace=settings.grace,
            )
            if points:
                Path(points).write_text(str(seams.passed))
            return code
        except Unreachable:  # a start without Redis fails, and is repeated
            time.sleep(0.1)


if __name__ == "__main__":
    main(int(sys.argv[1]))
