"""``python3 run.py bench NAME``: run a benchmark by its name."""

from __future__ import annotations

import sys
from importlib import import_module

BENCHMARKS = {
    "downloads": "files from nginx on loopback to disk, beside aria2 and curl",
}


def main(arguments: list[str]) -> int:
    """Run the benchmark that the first argument names; return the exit code."""
    name, *rest = arguments or [""]
    if name not in BENCHMARKS:
        asked = name in ("-h", "--help")
        (sys.stdout if asked else sys.stderr).write(_usage())
        return 0 if asked else 2
    benchmark = import_module(f"tests.benchmarks.{name}")
    code: int = benchmark.main(rest)
    return code


def _usage() -> str:
    rows = "".join(f"  {name:<12}{what}\n" for name, what in BENCHMARKS.items())
    return f"usage: bench NAME [--quick] [--json] [ARGUMENT...]\n\n{rows}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
