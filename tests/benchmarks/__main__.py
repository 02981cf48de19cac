"""``python3 run.py bench NAME``: run a benchmark by its name."""

from __future__ import annotations

import signal
import sys
from importlib import import_module

BENCHMARKS = {
    "downloads": "files from nginx on loopback to disk, beside aria2, curl and RQ",
    "listing": "a page of 100,000 fetches, beside one of 1,000",
    "events": "from a publication to its handler, beside dramatiq, taskiq, bare Redis",
    "gateway": "readers of server-sent events, and what they cost",
}


def main(arguments: list[str]) -> int:
    """Run the benchmark that the first argument names; return the exit code."""
    name, *rest = arguments or [""]
    if name not in BENCHMARKS:
        asked = name in ("-h", "--help")
        (sys.stdout if asked else sys.stderr).write(_usage())
        return 0 if asked else 2
    # As Ctrl-C does: servers stop in order, and gigabytes of files go. A shell may have
    # left SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    benchmark = import_module(f"tests.benchmarks.{name}")
    try:
        code: int = benchmark.main(rest)
    except KeyboardInterrupt:
        return 130
    return code


def _usage() -> str:
    rows = "".join(f"  {name:<12}{what}\n" for name, what in BENCHMARKS.items())
    return f"usage: bench NAME [--quick] [--json] [ARGUMENT...]\n\n{rows}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
