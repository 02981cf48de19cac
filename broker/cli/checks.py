"""What ``bgfetch doctor`` looks at."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from anyio import to_thread

from broker.cli import exits
from broker.cli.server_checks import Check, Verdict, server_checks
from broker.connection import Connection, masked
from broker.keys import AGENDA
from broker.quantities import shown_size
from broker.queue import JobQueue
from broker.settings import Settings
from broker.stores import open_store
from schemas import siblings
from schemas.errors import ConfigError, Failure, StorageError

SKEW_SECONDS = 2.0
LATE_SECONDS = 60
LEAST_FREE = 1024**3


async def all_checks(settings: Settings) -> list[Check]:
    """Make every check; those that need Redis are left out when it is away."""
    return [
        _packages(),
        *await to_thread.run_sync(_store, settings),
        *await to_thread.run_sync(_secrets, settings.secrets_dir),
        *await _redis(settings),
    ]


def _packages() -> Check:
    home = Path(siblings.__file__).parent.parent
    here = Path.cwd()
    theirs = [
        str(path)
        for name in siblings.NAMES
        for path in (here / name, here / f"{name}.py")
        if path.exists() and path.resolve() != home / name
    ]
    if theirs:
        told = f"{', '.join(theirs)} cannot be imported beside our packages: rename it"
        return Check("packages", Verdict.WARN, told)
    return Check("packages", Verdict.OK, f"schemas, broker and workers in {home}")


def _store(settings: Settings) -> list[Check]:
    try:
        store = open_store(settings)
        part = store.create()
        part.write(b"written by a look at the store")
        for failure in filter(None, store.finish([part])):
            raise failure
        store.delete([part.name])
        store.close()
    except ConfigError as error:
        return [Check("store", Verdict.FAIL, str(error))]
    except StorageError as error:
        fix = "name a writable directory, or a bucket's URL, in BGFETCH_STORE"
        return [Check("store", Verdict.FAIL, f"{error}; {fix}")]
    writable = f"{store.place} is writable, id {store.id}"
    checks = [Check("store", Verdict.OK, writable)]
    if settings.store_url is None:
        checks.append(_disk(settings.store_directory))
    return checks


def _disk(directory: Path) -> Check:
    usage = shutil.disk_usage(directory)
    told = f"{shown_size(usage.free)} free of {shown_size(usage.total)}"
    verdict = Verdict.OK if usage.free >= LEAST_FREE else Verdict.WARN
    return Check("disk", verdict, told)


def _secrets(directory: Path | None) -> list[Check]:
    if directory is None:
        return []
    try:
        files = {path.name for path in directory.iterdir() if path.is_file()}
    except OSError as error:
        told = f"{error}; name a readable directory in BGFETCH_SECRETS_DIR"
        return [Check("secrets", Verdict.FAIL, told)]
    names = {name for name in files if "." not in name}
    unbound = sorted(name for name in names if f"{name}.origins" not in files)
    if unbound:
        told = f"{', '.join(unbound)} may go nowhere: list origins in NAME.origins"
        return [Check("secrets", Verdict.WARN, told)]
    return [Check("secrets", Verdict.OK, f"{len(names)} in {directory}")]


async def _redis(settings: Settings) -> list[Check]:
    try:
        connection = Connection(settings.found_redis())
        try:
            return await _server(connection) + await _work(connection)
        finally:
            await connection.aclose()
    except Failure as error:
        return [Check("redis", Verdict.FAIL, exits.told(error))]


async def _server(connection: Connection) -> list[Check]:
    asked = time.time()
    now = await connection.now() / 1000
    skew = now - (asked + time.time()) / 2
    async with connection.answering():
        info = await connection.redis.info()
    return [
        *server_checks(info, masked(connection.url)),
        Check(
            "clock",
            Verdict.OK if abs(skew) <= SKEW_SECONDS else Verdict.WARN,
            f"this machine's differs from Redis's by {abs(skew):.3f} s",
        ),
    ]


async def _work(connection: Connection) -> list[Check]:
    queue = JobQueue(connection.url)
    try:
        waiting = await queue.waiting()
        alive = await queue.workers_alive()
    finally:
        await queue.aclose()
    since = await connection.now() - LATE_SECONDS * 1000
    late = await connection.ask("ZCOUNT", AGENDA, "-inf", since)
    told = ", ".join(f"{name} {count}" for name, count in waiting.items())
    verdict, more = Verdict.OK, ""
    if late:
        verdict = Verdict.WARN
        more = f"; nobody has looked after {late} fetches for {LATE_SECONDS} s"
    return [
        Check("queues", verdict, f"jobs waiting: {told}{more}"),
        Check("workers", Verdict.OK, f"{len(alive)} alive: {', '.join(alive)}")
        if alive
        else Check("workers", Verdict.WARN, "none is alive: run `bgfetch worker`"),
    ]
