"""``bgfetch worker``: carry out background fetches until a signal."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.exits import ExitCode, Interrupted
from broker.cli.log_options import LogFormat, LogLevel
from broker.cli.options import AllowNetworks, RedisURL, Store, session_of
from broker.cli.running import configured, networks, run
from workers.cli.options import Concurrency, Format, Grace, Level, Processes

if TYPE_CHECKING:
    from broker.settings import Settings


def worker(
    context: typer.Context,
    processes: Processes = 1,
    concurrency: Concurrency = None,
    burst: Annotated[
        bool, typer.Option("--burst", help="end when there is no more to do")
    ] = False,
    name: Annotated[
        str | None,
        typer.Option(help="how RQ's tools call it; default: the host's name"),
    ] = None,
    grace: Grace = None,
    redis_url: RedisURL = None,
    store: Store = None,
    allow_network: AllowNetworks = None,
    log_format: Format = LogFormat.AUTO,
    log_level: Level = LogLevel.INFO,
) -> int:
    """Carry out background fetches.

    TERM or Ctrl-C ends it in order, a second one at once. Unfinished
    downloads keep their bytes, and other workers go on with them. When Redis goes away
    the worker waits for it.
    """
    settings = configured(
        redis_url=redis_url,
        store=store,
        allow_networks=networks(allow_network),
        concurrency=concurrency,
        grace=grace,
    )
    url = settings.found_redis()
    settings = settings.model_copy(update={"redis_url": url})
    if processes == 1:
        return _work(settings, url, name, burst, log_format, log_level)
    options = ["--log-format", log_format, "--log-level", log_level]
    options += ["--name", name] if name else []
    options += ["--burst"] if burst else []
    command = [*session_of(context).program, "worker", *options]
    return run_children("worker", command, settings, processes, once=burst)


def _work(
    settings: Settings,
    url: str,
    name: str | None,
    burst: bool,
    log_format: LogFormat,
    log_level: LogLevel,
) -> int:
    import structlog

    from broker.cli.logs import configure
    from broker.connection import masked
    from workers.engine import Engine
    from workers.worker import run_worker

    configure(log_format, log_level)
    _collect_less()
    structlog.get_logger().info(
        "worker_starts", redis=masked(url), store=masked(settings.store_place)
    )
    return run_worker(
        url,
        lambda: Engine(settings),
        concurrency=settings.concurrency,
        name=name,
        burst=burst,
        grace=settings.grace,
    )


def _collect_less() -> None:
    """Look for cyclic garbage less often: what a record is made of has no cycles.

    Looking through all that lives took a sixth of the CPU of small files.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(5000, 20, 20)


def run_children(
    name: str,
    command: list[str],
    settings: Settings,
    count: int,
    *,
    once: bool = False,
) -> int:
    """Keep ``count`` processes of a command until a signal, then end them in order."""
    from broker.cli.children import Child, all_ended, kept
    from broker.cli.local import answers, environment_of

    url = settings.found_redis()
    environment = environment_of(settings, url)

    async def keep() -> int:
        await answers(url)
        children = [
            Child(name, command, environment, once=once, grace=settings.grace)
            for _ in range(count)
        ]
        async with kept(children) as tasks:
            return await all_ended(tasks)

    try:
        return run(keep())
    except Interrupted:
        return ExitCode.OK
