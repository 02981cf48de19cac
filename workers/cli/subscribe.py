"""``bgfetch subscribe``: run a service worker, which handles events until a signal."""

from __future__ import annotations

import gc
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.exits import ExitCode
from broker.cli.log_options import LogFormat, LogLevel
from broker.cli.options import RedisURL, Store, session_of
from broker.cli.running import configured
from workers.cli.filters import FilterOptions, IdPattern, StartAt, Types
from workers.cli.options import AppDir, Format, Grace, Level, Processes
from workers.cli.worker import run_children

if TYPE_CHECKING:
    from broker.deliveries import Begun
    from broker.settings import Settings
    from workers.dispatch import Observer

_GARBAGE = 20_000
"""New objects between two collections."""


def subscribe(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:ATTRIBUTE",
            help="a ServiceWorker, or a callable that returns one; as in podcasts:sw",
        ),
    ],
    processes: Processes = 1,
    reload: Annotated[
        bool,
        typer.Option(
            "--reload",
            help="for development: start anew when a Python file below the "
            "application's directory changes",
        ),
    ] = False,
    grace: Grace = None,
    app_dir: AppDir = None,
    type: Types = None,
    id: IdPattern = None,
    start: StartAt = None,
    scope: Annotated[
        str | None,
        typer.Option(
            "--scope", "-s", metavar="NAME", help="refuse a service worker of another"
        ),
    ] = None,
    redis_url: RedisURL = None,
    store: Store = None,
    log_format: Format = LogFormat.AUTO,
    log_level: Level = LogLevel.INFO,
) -> int:
    """Run a service worker.

    TERM or Ctrl-C ends it in order, a second one at once. Each event is logged when it
    is acknowledged, or was not. --type and --id are the subscriber's filter: what it
    excludes is not owed to it and keeps no records. The last process to start decides,
    for events from then on. Options win over the service worker's own.
    """
    settings = configured(scope, redis_url=redis_url, store=store, grace=grace)
    options = FilterOptions(type, id, start)
    if processes == 1 and not reload:
        return _subscribe(
            target, app_dir, scope, options, settings, log_format, log_level
        )
    directory = (app_dir or Path()).absolute()
    command = [*session_of(context).program, "subscribe", target]
    command += ["--log-format", log_format, "--log-level", log_level]
    command += ["--app-dir", str(directory), *options.told()]
    command += ["--scope", scope] if scope else []
    if not reload:
        return run_children("subscriber", command, settings, processes)
    from workers.cli.reload import run_reloading

    command += ["--processes", str(processes)]
    return run_reloading("subscriber", command, settings, directory)


def _subscribe(
    target: str,
    app_dir: Path | None,
    scope: str | None,
    options: FilterOptions,
    settings: Settings,
    log_format: LogFormat,
    log_level: LogLevel,
) -> int:
    from broker.cli.logs import configure
    from schemas.errors import ConfigError
    from workers.cli.target import load_target
    from workers.runtime import Runtime, run

    service_worker = load_target(target, app_dir)
    if scope is not None and service_worker.scope != scope:
        raise ConfigError(
            f"{target} belongs to scope {service_worker.scope!r}, not {scope!r}"
        )
    options.apply(service_worker)
    configure(log_format, log_level)
    # Many deliveries are alive at once: with the usual threshold all of them would be
    # looked at for every few new ones, and what was imported again and again.
    gc.freeze()
    gc.set_threshold(_GARBAGE, 10, 10)
    run(
        Runtime(
            service_worker,
            settings,
            redis_url=settings.found_redis(),
            observer=outcome_log(),
        )
    )
    return ExitCode.OK


def outcome_log() -> Observer:
    """Return who logs what became of each delivery, once the log is configured."""
    import structlog

    log = structlog.get_logger()
    level = logging.getLogger()

    def observe(outcome: str, begun: Begun) -> None:
        if outcome == "began" or not level.isEnabledFor(logging.INFO):
            return
        message = begun.delivery.message
        event = "event_" + outcome.replace(" ", "_")
        log.info(
            event,
            type=str(message.type),
            scope=message.registration.scope,
            id=message.registration.id,
            attempt=begun.attempt,
            delivery=begun.delivery.delivery_id,
        )

    return observe
