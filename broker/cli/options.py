"""Options that many verbs share, and what they say about the run as a whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, TypeVar

import typer

from broker.cli.quantities import parse_duration
from schemas.sizes import parse_size

T = TypeVar("T")


@dataclass(slots=True)
class Session:
    """One run of the command line, and what shapes all of it."""

    program: tuple[str, ...]
    """The command that starts this program again, for children."""
    json: bool
    """Whether it prints JSON, errors too."""
    debug: bool = False
    """Whether it shows tracebacks."""


def session_of(context: typer.Context) -> Session:
    """The session of a run."""
    session = context.obj
    assert isinstance(session, Session)
    return session


def parsed(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Make a parser whose complaint reaches the person in full."""

    def parser(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error

    return parser


def duration_option(*names: str, help: str) -> object:
    """An option that takes ``90``, ``90s``, ``10m``, ``2h`` or ``7d``."""
    return typer.Option(
        *names, parser=parsed(parse_duration), metavar="DURATION", help=help
    )


ScopeName = Annotated[
    str,
    typer.Option(
        "--scope",
        "-s",
        envvar="BGFETCH_SCOPE",
        metavar="NAME",
        help="the scope that owns the fetches",
    ),
]
RedisURL = Annotated[
    str | None,
    typer.Option(
        "--redis-url",
        envvar=["BGFETCH_REDIS_URL", "REDIS_URL"],
        metavar="URL",
        help="Redis or Valkey; without it the server of `bgfetch up` here",
        show_default=False,
    ),
]
Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        envvar="BGFETCH_STORE",
        metavar="DIR|URL",
        help="where the bytes are kept: a directory, or s3://, gs:// or az://",
        show_default=False,
    ),
]
AllowNetworks = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-network",
        metavar="CIDR",
        help="let workers that this command starts reach a network that is not public: "
        "a CIDR, 'loopback' or 'private' (repeatable, adds to BGFETCH_ALLOW_NETWORKS)",
        show_default=False,
    ),
]
JSON = Annotated[bool, typer.Option("--json", help="print JSON instead")]
FetchId = Annotated[str, typer.Argument(metavar="ID", help="the id given to fetch()")]
WaitTimeout = Annotated[
    timedelta | None,
    duration_option("--wait-timeout", help="exit 124 after this long; seconds, or 10m"),
]
Size = Annotated[
    int | None,
    typer.Option(
        "--download-total",
        parser=parsed(parse_size),
        metavar="SIZE",
        help="bytes expected, as 10MB or 60MiB; more than that fails the fetch",
        show_default=False,
    ),
]
