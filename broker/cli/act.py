"""``bgfetch abort``, ``pause``, ``resume``, ``click``: what people do to a fetch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated

from broker.cli.exits import ExitCode
from broker.cli.many import (
    AnyId,
    FilterText,
    StateName,
    Token,
    act_on_many,
    chosen,
)
from broker.cli.options import JSON, FetchId, RedisURL, ScopeName, duration_option
from broker.cli.output import put, put_json, say
from broker.cli.running import in_scope
from broker.cli.show import found
from broker.cli.sure import Yes
from broker.plain import as_plain
from schemas.bulk import Action

if TYPE_CHECKING:
    from redis.asyncio.client import PubSub

    from broker.manager import BackgroundFetchManager

WINDOW_SECONDS = 5


def abort(
    id: AnyId = None,
    filter: FilterText = None,
    state: StateName = None,
    token: Token = None,
    yes: Yes = False,
    scope: ScopeName = "default",
    redis_url: RedisURL = None,
    json: JSON = False,
) -> int:
    """Abort an active fetch, or with --filter every one that matches.

    Exits 1 if there is none with this id: no fetch ever had it, or it has ended.
    """
    wanted = chosen(id, filter, state, scope)
    if isinstance(wanted, str):
        return in_scope(scope, redis_url, partial(_abort, wanted, json))
    return act_on_many(Action.ABORT, wanted, redis_url, token=token, yes=yes, json=json)


async def _abort(id: str, json: bool, manager: BackgroundFetchManager) -> int:
    registration = await manager.get(id)
    aborted = registration is not None and await registration.abort()
    if json:
        put_json({"id": id, "aborted": aborted})
    elif not aborted:
        _say_none(id, manager.scope)
    return ExitCode.OK if aborted else ExitCode.NO


def pause(
    id: AnyId = None,
    filter: FilterText = None,
    state: StateName = None,
    token: Token = None,
    yes: Yes = False,
    scope: ScopeName = "default",
    redis_url: RedisURL = None,
    json: JSON = False,
) -> int:
    """Pause an active fetch: what has arrived is kept, and gone on with by `resume`.

    Only if all of its requests are GET. Exits 0 too if it is paused already, and 1 if
    there is no active fetch with this id. With --filter every one that matches.
    """
    wanted = chosen(id, filter, state, scope)
    if isinstance(wanted, str):
        return in_scope(scope, redis_url, partial(_pause, wanted, True, json))
    return act_on_many(Action.PAUSE, wanted, redis_url, token=token, yes=yes, json=json)


def resume(
    id: AnyId = None,
    filter: FilterText = None,
    state: StateName = None,
    token: Token = None,
    yes: Yes = False,
    scope: ScopeName = "default",
    redis_url: RedisURL = None,
    json: JSON = False,
) -> int:
    """Let a paused fetch go on, or approve one that waits for permission.

    `abort` refuses it. Exits 0 too if it was not paused, and 1 if there is no active
    fetch with this id. With --filter every one that matches.
    """
    wanted = chosen(id, filter, state, scope)
    if isinstance(wanted, str):
        return in_scope(scope, redis_url, partial(_pause, wanted, False, json))
    return act_on_many(
        Action.RESUME, wanted, redis_url, token=token, yes=yes, json=json
    )


async def _pause(
    id: str, pausing: bool, json: bool, manager: BackgroundFetchManager
) -> int:
    registration = await manager.get(id)
    if registration is None:
        _say_none(id, manager.scope)
        return ExitCode.NO
    await (registration.pause() if pausing else registration.resume())
    if json:
        put_json(as_plain(registration.state))
    return ExitCode.OK


def _say_none(id: str, scope: str) -> None:
    say(f"no active fetch {id!r} in scope {scope!r}: see `bgfetch list`")


def click(
    id: FetchId,
    wait_window: Annotated[
        timedelta | None,
        duration_option(
            "--wait-window",
            help="how long to wait for a window that a listener opens; default 5 s",
        ),
    ] = None,
    scope: ScopeName = "default",
    redis_url: RedisURL = None,
    json: JSON = False,
) -> int:
    """Click a fetch; print the link that it opens."""
    if wait_window is None:
        wait_window = timedelta(seconds=WINDOW_SECONDS)
    return in_scope(scope, redis_url, partial(_click, id, wait_window, json))


async def _click(
    id: str, patience: timedelta, json: bool, manager: BackgroundFetchManager
) -> int:
    from broker.connection import told_apart

    registration = await found(manager, id)
    if registration is None:
        return ExitCode.NO
    async with _windows(manager) as windows:
        event = (await registration.click()).event
        with told_apart(manager.connection.url):
            url = await _window(windows, registration.uid, event, patience)
    if json:
        put_json({"id": id, "uid": registration.uid, "event": event, "url": url})
    elif url is not None:
        put(url)
    else:
        say(f"{event} is published; no listener opened a window so far")
    return ExitCode.OK


@asynccontextmanager
async def _windows(manager: BackgroundFetchManager) -> AsyncIterator[PubSub]:
    """Hear of windows from before the click on: messages are not kept."""
    from broker.keys import ScopeKeys

    redis = manager.connection.blocking_client()
    try:
        async with redis.pubsub() as windows:
            async with manager.connection.answering():
                await windows.subscribe(ScopeKeys(manager.scope).clients)
                await windows.get_message(timeout=5)  # that it is subscribed
            yield windows
    finally:
        await redis.aclose()


async def _window(
    windows: PubSub, uid: str, event: str, patience: timedelta
) -> str | None:
    from schemas.errors import InvalidMessage
    from schemas.events import WindowMessage

    with suppress(TimeoutError):
        async with asyncio.timeout(patience.total_seconds()):
            async for message in windows.listen():
                if message["type"] != "message":
                    continue
                with suppress(InvalidMessage):
                    window = WindowMessage.decode(message["data"])
                    if (window.uid, window.event) == (uid, event):
                        return window.url
    return None
