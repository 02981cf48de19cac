"""Hours of the day in which a scope's fetches may transfer (BF-DISP-12)."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest

from broker.agenda import Agenda, Verdict
from broker.keys import AGENDA, FetchKeys
from broker.lanes import LaneHold, Opened
from broker.manager import BackgroundFetchManager
from broker.places import waiting
from broker.policies import write_policy
from broker.registration import BackgroundFetchRegistration
from broker.settings import Settings
from schemas.policies import ScopePolicy
from schemas.requests import Request
from tests.integration.clock import SCOPE
from tests.integration.commands import Bgfetch
from tests.integration.working import perform
from workers.demo.origin import Origin
from workers.engine import Engine

HOUR = 3_600_000
DAY = 24 * HOUR
BODY = bytes(range(256)) * 8000


async def hours(manager: BackgroundFetchManager, begin: int, end: int) -> str:
    """The window between so many hours from now, by Redis's clock."""
    now = await manager.connection.now()
    clock = [(now + hour * HOUR) // 60_000 % 1440 for hour in (begin, end)]
    return "-".join(f"{minute // 60:02}:{minute % 60:02}" for minute in clock)


async def put(manager: BackgroundFetchManager, window: str) -> None:
    await write_policy(manager.connection, SCOPE, ScopePolicy.checked(window=window))


async def move(
    manager: BackgroundFetchManager, registration: BackgroundFetchRegistration, to: str
) -> None:
    """Let the time come at which a fetch's window opens, or closes."""
    key = FetchKeys(SCOPE, registration.uid).fetch
    window = ScopePolicy.checked(window=to).hours
    assert window is not None
    await manager.connection.ask("HSET", key, "window", window.minutes)


async def test_outside_of_its_hours_a_fetch_waits_without_traffic(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin, settings: Settings
) -> None:
    """BF-DISP-12, R25: due when the window opens; then it is done as any other."""
    origin.add("/a", BODY)
    await put(manager, await hours(manager, 3, 5))
    registration = await manager.fetch("a", origin.url("/a"))
    keys = FetchKeys(SCOPE, registration.uid)

    await perform(engine, registration)
    now = await manager.connection.now()
    due = float(await manager.connection.ask("ZSCORE", AGENDA, keys.member))
    told = await waiting(manager.connection, settings, [registration.state])
    look = await Agenda(manager.connection, settings).look(keys)
    seen = origin.connections

    assert 2 * HOUR < due - now <= 3 * HOUR
    assert told[registration.uid].startswith("waits for its hours, ")
    assert (look.jobs, seen, registration.result) == ((), 0, "")
    await move(manager, registration, await hours(manager, -1, 1))
    look = await Agenda(manager.connection, settings).look(keys)
    assert look.verdict is Verdict.WORK
    await perform(engine, registration)
    assert registration.result == "success"


@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_when_its_hours_end_a_lane_keeps_what_is_there_and_leaves(
    manager: BackgroundFetchManager,
    engine: Engine,
    origin: Origin,
    settings: Settings,
    method: str,
) -> None:
    """BF-DISP-12: what is sent once comes to its end; the rest goes on another day."""
    gate = asyncio.Event()
    origin.add("/a", BODY, hold=gate)
    await put(manager, await hours(manager, -1, 1))
    registration = await manager.fetch("a", Request(origin.url("/a"), method=method))
    lane = asyncio.create_task(engine.perform(SCOPE, registration.uid, "job"))
    async with asyncio.timeout(60):
        async for progress in registration.progress():
            if progress.downloaded >= len(BODY) // 2:
                break

        await move(manager, registration, await hours(manager, 3, 5))
        if method == "GET":
            await lane
        gate.set()
        await lane
    await registration.refresh()

    if method == "PUT":
        assert registration.result == "success"
        return
    assert (registration.result, registration.downloaded > 0) == ("", True)
    lanes = FetchKeys(SCOPE, registration.uid).lanes
    assert await manager.connection.ask("HLEN", lanes) == 0
    await move(manager, registration, await hours(manager, -1, 1))
    await perform(engine, registration)
    assert registration.result == "success"
    assert [seen.headers.get("range") is None for seen in origin.log] == [True, False]


async def test_closed_hours_are_no_part_of_the_age_of_a_fetch(
    manager: BackgroundFetchManager, settings: Settings
) -> None:
    """BF-DISP-12: it does not give up because it had to wait."""
    await put(manager, await hours(manager, -1, 1))
    registration = await manager.fetch("a", "https://cdn.example/")
    keys = FetchKeys(SCOPE, registration.uid)
    await manager.connection.ask("HINCRBY", keys.fetch, "createdAt", -10 * DAY)

    opened = await LaneHold(manager.connection, settings, keys).take("job", 1)

    assert isinstance(opened, Opened)
    expected = timedelta(hours=20)
    assert abs(opened.age - expected) < timedelta(minutes=10)


def test_a_window_is_a_rule_of_the_scope(bgfetch: Bgfetch) -> None:
    """BF-DISP-12."""
    code, shown, _ = bgfetch("scope", "set", SCOPE, "--window", "22:00-6:00")
    wrong = bgfetch("scope", "set", SCOPE, "--window", "22-6")
    told = json.loads(bgfetch("scope", "show", SCOPE, "--json")[1])

    assert code == 0
    assert "window:     22:00-06:00 UTC" in shown.splitlines()
    assert wrong[0] != 0
    assert "'22-6' is no window: write the hours of a day by UTC" in wrong[2]
    assert told["window"] == "22:00-06:00"
