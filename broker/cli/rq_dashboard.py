"""``bgfetch rq-dashboard``: RQ's own dashboard, able to read our jobs."""

from __future__ import annotations

import os
import signal
from typing import Annotated, Any

import typer

from broker.cli.exits import ExitCode
from broker.cli.options import RedisURL
from broker.cli.running import configured
from schemas.errors import ConfigError


def rq_dashboard(
    host: Annotated[
        str, typer.Option(help="the address to listen on", metavar="HOST")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 9181,
    allow_delete: Annotated[
        bool,
        typer.Option("--allow-delete", help="let people delete and empty what is RQ's"),
    ] = False,
    redis_url: RedisURL = None,
) -> int:
    """Run rq-dashboard over our queues.

    It shows queues, jobs and workers as RQ sees them; fetches, their bytes and events
    are in `bgfetch serve`. A job that is deleted here is wanted anew: `bgfetch abort`
    ends a fetch. It has no accounts and no protection from pages of other sites, so it
    listens on this machine alone. It needs the extra 'rq-dashboard' (pip install
    'background-fetch[rq-dashboard]').
    """
    settings = configured(redis_url=redis_url)
    try:
        from rq_dashboard import cli, web
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"rq-dashboard needs {error.name}: "
            "pip install 'background-fetch[rq-dashboard]'"
        ) from error
    web.Worker = _Workers(web.Worker)
    # By environment: what a process was called with, everybody on the machine can read.
    os.environ["RQ_DASHBOARD_REDIS_URL"] = settings.found_redis()
    options = ["--json", "--bind", host, "--port", str(port)]
    if not allow_delete:
        options.append("--disable-delete")
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    cli.run.main(
        options,
        "rq-dashboard",
        standalone_mode=False,
        auto_envvar_prefix="RQ_DASHBOARD",
    )
    return ExitCode.OK


class _Workers:
    """RQ's workers, whose jobs are ours: rq-dashboard would unpickle them."""

    def __init__(self, workers: Any) -> None:
        self._workers = workers

    def all(self, connection: Any) -> Any:
        """Every worker that is registered."""
        from broker.queue import LaneJobClass

        return self._workers.all(connection=connection, job_class=LaneJobClass)
