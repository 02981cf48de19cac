"""``bgfetch subscribe``: run a service worker, which handles events until a signal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.exits import ExitCode
from broker.cli.log_options import LogFormat, LogLevel
from broker.cli.options import RedisURL, Store, parsed, session_of
from broker.cli.quantities import parse_moment
from broker.cli.running import configured
from workers.cli.options import AppDir, Format, Grace, Level, Processes
from workers.cli.worker import run_children

if TYPE_CHECKING:
    from broker.settings import Settings
    from broker.stream import Begun
    from workers.service_worker import ServiceWorker


Types = Annotated[
    list[str] | None,
    typer.Option(
        "--type",
        metavar="TYPE",
        help="take events of this type; 'fail' is enough (repeatable)",
        show_default=False,
    ),
]
Pattern = Annotated[
    str | None,
    typer.Option(
        "--id",
        metavar="PATTERN",
        help="take events of fetches with such an id: * stands for any characters, "
        "the rest for itself, as in 'ep-*'",
        show_default=False,
    ),
]
StartAt = Annotated[
    str | None,
    typer.Option(
        "--start",
        metavar="WHERE",
        help="where a new subscriber begins: 'new', 'all' that is still there, how "
        "long ago, as 2h, or a time in ISO 8601; older events are not owed to it",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class _Options:
    """What the command line says instead of the service worker."""

    types: tuple[str, ...]
    ids: str | None
    start: str | None

    def told(self) -> list[str]:
        """The same as arguments."""
        told = [f"--type={name}" for name in self.types]
        told += [f"--id={self.ids}"] if self.ids is not None else []
        return told + ([f"--start={self.start}"] if self.start is not None else [])

    def apply(self, service_worker: ServiceWorker) -> None:
        """Change the service worker as told.

        Raises:
            ConfigError: there is no such event, or ``ids`` is no pattern.
            typer.BadParameter: ``start`` is no time.
        """
        from schemas.filters import EventFilter

        takes = service_worker.takes
        service_worker.takes = EventFilter.of(
            self.types or takes.types, takes.ids if self.ids is None else self.ids
        )
        match self.start:
            case None:
                pass
            case "new" | "all" as named:
                service_worker.start = named
            case text:
                service_worker.start = parsed(parse_moment)(text)


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
    id: Pattern = None,
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
    options = _Options(tuple(type or ()), id, start)
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
    options: _Options,
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
    run(
        Runtime(
            service_worker,
            settings,
            redis_url=settings.found_redis(),
            observer=log_outcome,
        )
    )
    return ExitCode.OK


def log_outcome(outcome: str, begun: Begun) -> None:
    """Log what became of a delivery."""
    import structlog

    if outcome == "began":
        return
    message = begun.delivery.message
    structlog.get_logger().info(
        "event_" + outcome.replace(" ", "_"),
        type=str(message.type),
        scope=message.registration.scope,
        id=message.registration.id,
        attempt=begun.attempt,
        delivery=begun.delivery.delivery_id,
    )
