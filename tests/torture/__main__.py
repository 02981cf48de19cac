"""``python3 run.py torture NAME``: run a torture by its name."""

from __future__ import annotations

import sys
from importlib import import_module

TORTURES = {
    "api": "random calls, crashes and lost answers, beside a model of the API",
    "crash": "a worker dies at every call to Redis, disk or origin; another goes on",
    "events": "kill, stop and part subscribers, kill Redis; judge what came of events",
    "resume": "kill workers and swap files at random moments; compare every blob",
}


def main(arguments: list[str]) -> int:
    """Run the torture that the first argument names; return the exit code."""
    name, *rest = arguments or [""]
    if name not in TORTURES:
        asked = name in ("-h", "--help")
        (sys.stdout if asked else sys.stderr).write(_usage())
        return 0 if asked else 2
    code: int = import_module(f"tests.torture.{name}").main(rest)
    return code


def _usage() -> str:
    rows = "".join(f"  {name:<12}{what}\n" for name, what in TORTURES.items())
    return f"usage: torture NAME [--rounds N] [--seed S] [--json]\n\n{rows}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
