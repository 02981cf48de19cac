"""``bgfetch fetch``: register a background fetch; wait for it and save it if asked."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from broker.cli.options import (
    JSON,
    AllowNetworks,
    RedisURL,
    ScopeName,
    Size,
    Store,
    WaitTimeout,
    duration_option,
    session_of,
)
from broker.cli.running import configured, networks, run

HOLD_FOR_SAVING = timedelta(hours=1)
"""With --output: how long, at least, the records wait after the result."""


def fetch(
    context: typer.Context,
    urls: Annotated[
        list[str] | None,
        typer.Argument(metavar="URL...", help="what to fetch; '-' reads stdin"),
    ] = None,
    id: Annotated[
        str | None,
        typer.Option(metavar="ID", help="unique among the active fetches of the scope"),
    ] = None,
    title: Annotated[str, typer.Option(metavar="TEXT", help="for people")] = "",
    icon: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="an icon (repeatable)")
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option(
            "--header", "-H", metavar="'K: V'", help="a request header (repeatable)"
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method", "-X", metavar="METHOD", help="GET, or POST with --data"
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", "-d", metavar="TEXT|@FILE", help="a body for each URL"),
    ] = None,
    download_total: Size = None,
    hold: Annotated[
        timedelta | None,
        duration_option("--hold", help="keep the records this long after the result"),
    ] = None,
    priority: Annotated[str, typer.Option(metavar="high|auto|low")] = "auto",
    wait: Annotated[
        bool, typer.Option("--wait", help="wait for the result, with progress")
    ] = False,
    wait_timeout: WaitTimeout = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="save what arrives; waits"),
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="save as sent: leave gzip and deflate alone")
    ] = False,
    scope: ScopeName = "default",
    redis_url: RedisURL = None,
    store: Store = None,
    allow_network: AllowNetworks = None,
    json: JSON = False,
) -> int:
    """Fetch URLs in the background; print the id.

    With --output the names of the files that were saved are printed instead. With it or
    --wait, a server and a worker are started where none is running, for as long as the
    command takes. If it is interrupted, the same command goes on where it stopped.
    """
    from broker.cli.requests import Words, requests_of
    from broker.cli.waiting import Call, Wish

    settings = configured(
        scope, redis_url=redis_url, store=store, allow_networks=networks(allow_network)
    )
    words = Words(method, header or (), data)
    wish = Wish(
        requests=tuple(requests_of(urls or (), words, settings)),
        id=id,
        title=title,
        icons=tuple(icon or ()),
        download_total=download_total or 0,
        hold=max(hold or timedelta(0), HOLD_FOR_SAVING if output else timedelta(0)),
        priority=priority,
        wait_timeout=wait_timeout,
        output=output,
        raw=raw,
    )
    call = Call(wish, scope, settings, session_of(context))
    waits = wait or wait_timeout is not None or output is not None
    return run(call.wait() if waits else call.register_only())
