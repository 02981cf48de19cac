"""``bgfetch sweep``: delete stored bytes that nothing names any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.exits import ExitCode
from broker.cli.options import JSON, RedisURL, Store
from broker.cli.output import put, put_json, say
from broker.cli.running import configured, run

if TYPE_CHECKING:
    from broker.settings import Settings
    from broker.sweep import Swept


def sweep(
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="tell what would be deleted, change nothing"),
    ] = False,
    store: Store = None,
    redis_url: RedisURL = None,
    json: JSON = False,
) -> int:
    """Delete files in the store that crashes left behind; workers do it every hour.

    A file goes if it is over a day old, and two sweeps an hour apart found no record
    that names it. Printed are the names of those that go. Exits 1 if the store may not
    be swept: this Redis has never used it, or another one has too.
    """
    swept = run(_sweep(configured(redis_url=redis_url, store=store), dry_run))
    if json:
        told = {"deleted": list(swept.deleted), "waiting": list(swept.waiting)}
        put_json(told | {"dryRun": dry_run})
        return ExitCode.OK
    for name in swept.deleted:
        put(name)
    done = "would be deleted" if dry_run else "deleted"
    say(
        f"{_counted(len(swept.deleted))} {done}; "
        f"{_counted(len(swept.waiting))} to be seen again in an hour"
    )
    return ExitCode.OK


async def _sweep(settings: Settings, dry_run: bool) -> Swept:
    from anyio import to_thread

    from broker.connection import Connection
    from broker.stores import open_store
    from broker.sweep import Sweep

    connection = Connection(settings.found_redis())
    try:
        store = await to_thread.run_sync(open_store, settings)
        return await Sweep(connection, store).run(dry_run=dry_run)
    finally:
        await connection.aclose()


def _counted(count: int) -> str:
    return "1 orphan" if count == 1 else f"{count} orphans"
