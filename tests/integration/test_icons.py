"""Icons come through our own workers, once for all, and never harm a display."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from broker.icons import AGAIN, HEADERS, MAX_BYTES, SCOPE, Icon, Icons
from broker.keys import FetchKeys, ScopeKeys
from broker.manager import BackgroundFetchManager, connect
from broker.scopes import look_at_scopes
from broker.settings import Settings, milliseconds
from schemas.errors import InvalidName
from workers.demo.origin import Origin
from workers.engine import Engine
from workers.service_worker import ServiceWorker

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
KEYS = ScopeKeys(SCOPE)


@pytest.fixture
async def icons(
    manager: BackgroundFetchManager, settings: Settings
) -> AsyncIterator[Icons]:
    icons = Icons(manager.connection, settings)
    yield icons
    await icons.aclose()


async def work(manager: BackgroundFetchManager, engine: Engine) -> None:
    """Carry what is wanted for icons to its end."""
    for entry in await manager.connection.ask("HVALS", KEYS.active):
        await engine.perform(SCOPE, entry.decode().partition(":")[2], "job")


async def test_an_icon_is_brought_once_for_all_displays(
    manager: BackgroundFetchManager,
    engine: Engine,
    origin: Origin,
    icons: Icons,
    settings: Settings,
) -> None:
    """BF-DISP-05: in a scope of our own, chosen by size, resolved against the base."""
    origin.add("/96.png", PNG, headers={"Content-Type": "image/png"})
    sizes = [{"src": f"/{n}.png", "sizes": f"{n}x{n}"} for n in (16, 96, 512)]
    async with connect(scope="x", base_url=origin.url("/"), settings=settings) as own:
        shown = await own.fetch("x", "/any", icons=sizes)

    before = [await icons.of(shown.state) for _ in range(3)]
    await work(manager, engine)
    after = [await icons.of(shown.state) for _ in range(3)]

    assert before == [None] * 3
    assert {type(each) for each in after} == {Icon}
    assert after[0] is not None
    assert (after[0].type, after[0].body) == ("image/png", PNG)
    assert [seen.path for seen in origin.log] == ["/96.png"]
    assert "image/png" in origin.log[0].headers["accept"]
    assert "sandbox" in HEADERS["Content-Security-Policy"]


async def test_a_display_may_wait_for_an_icon(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin, icons: Icons
) -> None:
    """BF-DISP-05: several at the same time wait for one fetch."""
    origin.add("/i.png", PNG)
    soon = timedelta(seconds=60)
    asking = [
        asyncio.create_task(icons.body(origin.url("/i.png"), wait=soon))
        for _ in range(5)
    ]
    async with asyncio.timeout(60):
        while not await manager.connection.ask("HLEN", KEYS.active):  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    await work(manager, engine)
    found = await asyncio.gather(*asking)

    assert [each and each.body for each in found] == [PNG] * 5
    assert len(origin.log) == 1


@pytest.mark.parametrize(
    "path", ["/html", "/missing", "/large", "/bomb", "http://10.0.0.1/i.png", "data:,"]
)
async def test_what_cannot_be_shown_is_none_and_is_remembered(
    manager: BackgroundFetchManager,
    engine: Engine,
    origin: Origin,
    icons: Icons,
    path: str,
) -> None:
    """BF-DISP-05: the address policy holds for icons; a failure is never fatal."""
    origin.add("/html", b"<script>", headers={"Content-Type": "image/png"})
    origin.add("/large", PNG + bytes(MAX_BYTES))
    bomb = gzip.compress(PNG + bytes(20 * MAX_BYTES))
    origin.add("/bomb", bomb, headers={"Content-Encoding": "gzip"})
    url = path if ":" in path else origin.url(path)

    first = await icons.body(url)
    await work(manager, engine)
    later = [await icons.body(url) for _ in range(2)]

    assert [first, *later] == [None] * 3
    assert len(origin.log) == (0 if ":" in path else 1)
    assert await manager.connection.ask("HLEN", KEYS.active) == 0


async def test_a_failure_is_tried_again_after_an_hour(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin, icons: Icons
) -> None:
    """BF-DISP-05."""
    url = origin.url("/late.png")
    await icons.body(url)
    await work(manager, engine)
    origin.add("/late.png", PNG)
    at_once = await icons.body(url)
    [uid] = await manager.connection.ask("ZRANGE", KEYS.fetches, 0, -1)
    key = FetchKeys(SCOPE, uid.decode()).fetch
    await manager.connection.ask("HINCRBY", key, "settledAt", -milliseconds(AGAIN))

    again = await icons.body(url)
    await work(manager, engine)
    found = await icons.body(url)

    assert at_once is again is None
    assert found is not None
    assert found.type == "image/png"


async def test_nobody_else_sees_or_uses_the_scope_of_icons(
    manager: BackgroundFetchManager, settings: Settings, icons: Icons, origin: Origin
) -> None:
    await icons.body(origin.url("/i.png"))

    with pytest.raises(InvalidName, match="is no scope name"):
        async with connect(scope=SCOPE, settings=settings):
            pass
    with pytest.raises(InvalidName):
        ServiceWorker(SCOPE)
    assert await look_at_scopes(manager.connection) == []
