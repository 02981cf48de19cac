"""``bgfetch webhook``: a subscriber that posts events to an endpoint."""

from __future__ import annotations

import asyncio
import os
import signal
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.exits import ExitCode
from broker.cli.log_options import LogFormat, LogLevel
from broker.cli.options import AllowNetworks, RedisURL, ScopeName, duration_option
from broker.cli.running import configured, networks
from workers.cli.filters import FilterOptions, IdPattern, StartAt, Types
from workers.cli.options import Format, Grace, Level

if TYPE_CHECKING:
    from workers.runtime import Runtime
    from workers.webhooks import Webhook

SECRET = "BGFETCH_WEBHOOK_SECRET"


def webhook(
    url: Annotated[str, typer.Argument(metavar="URL", help="where to post events")],
    scope: ScopeName,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="the subscriber's name")
    ] = "webhook",
    secret_file: Annotated[
        Path | None,
        typer.Option(
            "--secret-file",
            metavar="FILE",
            help=f"secrets, one a line, all of which sign; default: ${SECRET}",
            show_default=False,
        ),
    ] = None,
    timeout: Annotated[
        timedelta | None,
        duration_option("--timeout", help="how long an answer may take; 20 s"),
    ] = None,
    type: Types = None,
    id: IdPattern = None,
    start: StartAt = None,
    grace: Grace = None,
    redis_url: RedisURL = None,
    allow_network: AllowNetworks = None,
    log_format: Format = LogFormat.AUTO,
    log_level: Level = LogLevel.INFO,
) -> int:
    """Post a scope's events to an endpoint, signed by the Standard Webhooks scheme.

    A 2xx acknowledges an event. Anything else fails its delivery, which comes again
    with growing pauses and in the end is a dead letter (`bgfetch dead`). Several of
    these processes with one name share the work. TERM or Ctrl-C ends it in order.
    """
    from broker.cli.logs import configure
    from workers.cli.subscribe import outcome_log
    from workers.runtime import Runtime
    from workers.webhooks import TIMEOUT, Webhook

    settings = configured(
        scope,
        redis_url=redis_url,
        allow_networks=networks(allow_network),
        grace=grace,
    )
    hook = Webhook(
        scope,
        url,
        secrets=_secrets(secret_file),
        name=name,
        settings=settings,
        timeout=timeout or TIMEOUT,
    )
    FilterOptions(type, id, start).apply(hook.service_worker)
    configure(log_format, log_level)
    runtime = Runtime(
        hook.service_worker,
        settings,
        redis_url=settings.found_redis(),
        observer=outcome_log(),
    )
    asyncio.run(_run(hook, runtime))
    return ExitCode.OK


async def _run(hook: Webhook, runtime: Runtime) -> None:
    from broker.signals import on_first_signal

    on_first_signal((signal.SIGTERM, signal.SIGINT), lambda _: runtime.stop())
    async with hook:
        await runtime.run()


def _secrets(file: Path | None) -> list[str]:
    from schemas.errors import ConfigError

    if file is None:
        text, where = os.environ.get(SECRET, ""), f"${SECRET}"
    else:
        where = str(file)
        try:
            text = file.read_text()
        except OSError as error:
            raise ConfigError(f"--secret-file {where!r}: {error.strerror}") from error
    if not text.split():
        raise ConfigError(
            f"{where} holds no secret to sign with: set {SECRET} or --secret-file"
        )
    return text.split()
