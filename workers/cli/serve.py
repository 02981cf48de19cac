"""``bgfetch serve``: the gateway, HTTP for programs and pages for people."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.exits import ExitCode
from broker.cli.log_options import LogFormat, LogLevel
from broker.cli.options import RedisURL, Store
from broker.cli.running import configured, run
from workers.cli.options import PORT, Format, Level

if TYPE_CHECKING:
    from broker.settings import Settings


def serve(
    host: Annotated[
        str, typer.Option(help="the address to listen on", metavar="HOST")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one")] = PORT,
    accounts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="who may do what, as `bgfetch account` writes it",
            show_default=False,
        ),
    ] = None,
    everybody: Annotated[
        bool,
        typer.Option(
            "--everybody",
            help="listen beyond this machine although there are no accounts: whoever "
            "reaches the port may do everything",
        ),
    ] = False,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="refuse every write")
    ] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="a name to answer to, beside addresses and localhost (repeatable, "
            "adds to BGFETCH_HOSTS)",
            show_default=False,
        ),
    ] = None,
    redis_url: RedisURL = None,
    store: Store = None,
    log_format: Format = LogFormat.AUTO,
    log_level: Level = LogLevel.INFO,
) -> int:
    """Serve the HTTP API and the dashboard.

    It listens on this machine alone, where everybody may do everything, unless there
    are accounts. TERM or Ctrl-C ends it within seconds, a second one at once. It needs
    the extra 'gateway' (pip install 'background-fetch[gateway]').
    """
    from broker.cli.logs import configure
    from schemas.errors import ConfigError

    settings = configured(
        redis_url=redis_url,
        store=store,
        accounts=accounts,
        read_only=read_only or None,
    )
    if settings.accounts is None and not everybody and not _is_here(host):
        raise ConfigError(
            f"whoever reaches {host} could do everything: name accounts by --accounts "
            "(`bgfetch account` makes them), or say --everybody"
        )
    settings = settings.model_copy(
        update={
            "redis_url": settings.found_redis(),
            "hosts": (*settings.hosts, *(allow_host or ()), host),
        }
    )
    configure(log_format, log_level)
    return run(_serve(settings, host, port))


def _is_here(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _serve(settings: Settings, host: str, port: int) -> int:
    import signal

    import structlog

    from broker.signals import on_first_signal
    from schemas.errors import ConfigError

    try:
        from broker.gateway import Server, create_app
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the gateway needs {error.name}: pip install 'background-fetch[gateway]'"
        ) from error
    from workers.upkeep import upkeep

    async with upkeep(settings):
        server = Server(create_app(settings), host, port)
        on_first_signal((signal.SIGTERM, signal.SIGINT), lambda _: server.stop())
        structlog.get_logger().info("gateway_starts", address=server.address)
        await server.serve()
    return ExitCode.OK
