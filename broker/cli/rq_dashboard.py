"""``bgfetch rq-dashboard``: RQ's own dashboard, able to read our jobs."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from typing import Annotated

import typer

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
    if find_spec("rq_dashboard") is None or find_spec("six") is None:
        raise ConfigError(
            "rq-dashboard is not installed: "
            "pip install 'background-fetch[rq-dashboard]'"
        )
    # By environment: what a process was called with, everybody on the machine can read.
    environment = {
        **os.environ,
        "RQ_DASHBOARD_REDIS_URL": settings.found_redis(),
        "RQ_DASHBOARD_JSON": "true",
        "RQ_DASHBOARD_BIND": host,
        "RQ_DASHBOARD_PORT": str(port),
        "RQ_DASHBOARD_DISABLE_DELETE": str(not allow_delete).lower(),
    }
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-P", "-m", "rq_dashboard"], environment)
