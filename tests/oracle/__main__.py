"""``python3 run.py oracle record``: what Chromium does, written into chromium.json."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys

from tests.oracle.native import record
from tests.oracle.scenarios import HERE, load

FIXTURE = HERE / "chromium.json"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


def main(arguments: list[str]) -> int:
    """Record the scenarios; return the exit code."""
    scenarios = load()
    parser = argparse.ArgumentParser(prog="oracle")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    verb = verbs.add_parser("record", help="play them in Chromium, keep the traces")
    verb.add_argument(
        "scenario", nargs="*", help=f"all, or some of: {', '.join(scenarios)}"
    )
    names = parser.parse_args(arguments).scenario
    if unknown := set(names) - set(scenarios):
        parser.error(f"no scenario {', '.join(sorted(unknown))}")
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        sys.stderr.write("oracle: Chromium is missing: apt-get install chromium\n")
        return 3
    chosen = [scenarios[name] for name in names or scenarios]
    version, traces = asyncio.run(record(program, chosen))
    if names:
        traces = json.loads(FIXTURE.read_text())["traces"] | traces
    told = {"chromium": version, "traces": traces}
    FIXTURE.write_text(json.dumps(told, indent=1, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
