"""The entry point of the command ``bgfetch``."""

from __future__ import annotations

import sys

from broker.cli.app import command_line, run
from workers.cli.demo import demo
from workers.cli.leash import take_leash
from workers.cli.serve import serve
from workers.cli.subscribe import subscribe
from workers.cli.up import up
from workers.cli.webhook import webhook
from workers.cli.worker import worker

# -P: the directory that a person is in may have folders with our packages' names.
PROGRAM = (sys.executable, "-P", "-m", "workers.cli")


def main() -> int:
    """Run one command of the command line; return its exit code."""
    take_leash()
    app = command_line()
    for verb in (worker, subscribe, serve, webhook, up, demo):
        app.command()(verb)
    return run(app, PROGRAM, sys.argv[1:])
