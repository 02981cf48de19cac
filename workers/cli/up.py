"""``bgfetch up``: all that one machine needs, in one command, until Ctrl-C."""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.exits import ExitCode, Interrupted
from broker.cli.log_options import LogFormat, LogLevel
from broker.cli.options import AllowNetworks, RedisURL, Store, session_of
from broker.cli.output import say
from broker.cli.running import configured, networks, run
from workers.cli.options import PORT, AppDir, Concurrency, Format, Grace, Level

if TYPE_CHECKING:
    from broker.cli.local import LocalServer
    from broker.settings import Settings


def up(
    context: typer.Context,
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODULE:ATTRIBUTE]",
            help="a service worker to run beside, as for `bgfetch subscribe`",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", "-w", min=1, max=1024, metavar="N")
    ] = 1,
    concurrency: Concurrency = None,
    grace: Grace = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            help="of the gateway; default 8780, or a free one if that is taken",
            show_default=False,
        ),
    ] = None,
    app_dir: AppDir = None,
    redis_url: RedisURL = None,
    store: Store = None,
    allow_network: AllowNetworks = None,
    log_format: Format = LogFormat.AUTO,
    log_level: Level = LogLevel.INFO,
) -> int:
    """Run all that is needed on this machine.

    That is a server, workers, with a target a subscriber, and the gateway with its
    dashboard if the extra 'gateway' is installed, until Ctrl-C. The server keeps its
    data in the user's data directory, and every other command finds it. If a Redis is
    configured, that one is used and no server is started.
    """
    settings = configured(
        redis_url=redis_url,
        store=store,
        allow_networks=networks(allow_network),
        concurrency=concurrency,
        grace=grace,
    )
    logging = ["--log-format", log_format, "--log-level", log_level]
    program = session_of(context).program
    subscriber = [*program, "subscribe", *([target] if target else []), *logging]
    if app_dir is not None:
        subscriber += ["--app-dir", str(app_dir.absolute())]
    commands = {
        f"worker {n}": [*program, "worker", *logging] for n in _numbers(workers)
    }
    if target:
        commands[f"subscriber {target}"] = subscriber
    dashboard = ""
    if find_spec("fastapi") is not None:
        port = port or _usual_port()
        commands["gateway"] = [*program, "serve", "--port", str(port), *logging]
        dashboard = f"http://127.0.0.1:{port}/"
    try:
        return run(_keep(settings, commands, dashboard))
    except Interrupted:
        say("all ended")
        return ExitCode.OK


def _usual_port() -> int:
    """The gateway's usual port, or a free one while somebody else has that."""
    for port in (PORT, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    return PORT


def _numbers(count: int) -> range:
    return range(1, count + 1)


async def _keep(
    settings: Settings, commands: dict[str, list[str]], dashboard: str
) -> int:
    """Run the commands; they end in reverse order, and the server last."""
    from broker.cli.children import Child, all_ended, kept
    from broker.cli.local import environment_of, server_for

    async with server_for(settings) as (url, server), AsyncExitStack() as stack:
        say(_told(url, server))
        say(f"bytes are kept in {settings.store_place}")
        if dashboard:
            say(f"the dashboard is at {dashboard}")
        environment = environment_of(settings, url)
        tasks = []
        for name, command in commands.items():
            child = Child(name, command, environment, grace=settings.grace)
            tasks += await stack.enter_async_context(kept([child]))
        say(f"running: {', '.join(commands)}; Ctrl-C ends everything in order")
        return await all_ended(tasks)


def _told(url: str, server: LocalServer | None) -> str:
    from broker.connection import masked

    if server is None:
        return f"using Redis at {masked(url)}"
    if server.own is None:
        return f"using the server that runs in {server.directory}"
    binary = server.own.binary
    kind = binary.kind.capitalize()
    return f"{kind} {binary.version} runs at {masked(url)}"
