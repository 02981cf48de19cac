"""The command ``bgfetch``: the verbs of ``broker.cli``, and those of processes."""

from workers.cli.main import main

__all__ = ["main"]
