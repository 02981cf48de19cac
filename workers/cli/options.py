"""Options of the commands that run until a signal."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from broker.cli.log_options import LogFormat, LogLevel
from broker.cli.options import duration_option

PORT = 8780
"""Where the gateway listens unless it is told."""

Processes = Annotated[
    int,
    typer.Option("--processes", "-p", min=1, max=1024, metavar="N", help="processes"),
]
Concurrency = Annotated[
    int | None,
    typer.Option(
        "--concurrency",
        min=1,
        max=1024,
        metavar="N",
        help="fetches, or parts of large ones, at a time in a process; default 16",
        show_default=False,
    ),
]
Grace = Annotated[
    timedelta | None,
    duration_option("--grace", help="how long running work may take to end; 30 s"),
]
AppDir = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="where MODULE is; default: the current directory",
        show_default=False,
    ),
]
Format = Annotated[
    LogFormat,
    typer.Option("--log-format", envvar="BGFETCH_LOG_FORMAT", help="auto: by terminal"),
]
Level = Annotated[
    LogLevel,
    typer.Option("--log-level", envvar="BGFETCH_LOG_LEVEL", help="least level"),
]
