"""``bgfetch demo``: the main job on this machine, told step by step and checked."""

from __future__ import annotations

from typing import Annotated

import typer


def demo(
    once: Annotated[
        bool,
        typer.Option("--once", help="without pauses; the exit code tells the outcome"),
    ] = False,
    redis_url: Annotated[
        str | None,
        typer.Option(
            "--redis-url",
            metavar="URL",
            help="use this database, which must be free, instead of a server of its "
            "own; the environment is not asked",
            show_default=False,
        ),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="leave files and logs, and say where")
    ] = False,
    no_color: Annotated[
        bool, typer.Option("--no-color", help="plain lines, without bars and colours")
    ] = False,
) -> int:
    """Show the whole service at work on this machine, and check every outcome.

    It starts a server, an origin, two workers and a subscriber of its own, and leaves
    nothing behind. Exit 1: something did not come out as it should.
    """
    from workers.demo import main

    color = False if no_color else None
    return main(once=once, redis_url=redis_url, color=color, keep=keep)
