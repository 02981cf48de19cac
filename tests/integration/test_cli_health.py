"""``bgfetch health``: what containers ask, answered by the processes' event loops."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta

import pytest
import redis

from broker.cli.app import command_line, run
from broker.cli.health import Part, answer
from broker.keys import PROCESSES
from broker.manager import BackgroundFetchManager
from broker.processes import Process, Processes, Role, host_name
from broker.settings import Settings
from tests.integration.clock import SCOPE
from tests.integration.outcomes import running
from workers.engine import Engine
from workers.service_worker import ServiceWorker

LEASE = timedelta(seconds=10)
Bgfetch = Callable[..., tuple[int, str, str]]


@pytest.fixture
def bgfetch(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Bgfetch:
    """Return a function that runs one command in this process."""
    monkeypatch.setenv("BGFETCH_REDIS_URL", redis_url)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = run(command_line(), ["never", "started"], arguments)
        return code, *capsys.readouterr()

    return call


async def alive(manager: BackgroundFetchManager, role: Role) -> list[Process]:
    """Wait until a process of this role tells that it lives."""
    async with asyncio.timeout(15):
        while True:
            found = await Processes(manager.connection).alive()
            if mine := [process for process in found if process.role is role]:
                return mine
            await asyncio.sleep(0.01)


async def test_a_subscriber_is_well_while_its_event_loop_runs(
    manager: BackgroundFetchManager, settings: Settings
) -> None:
    sub = Part.SUBSCRIBER
    before = await answer(settings, sub)
    async with running(ServiceWorker(SCOPE, name="mailer"), settings):
        [process] = await alive(manager, Role.SUBSCRIBER)
        found = await answer(settings, sub)
        meant = await answer(settings, sub, SCOPE, "mailer")
        others = [
            await answer(settings, sub, "music"),
            await answer(settings, sub, SCOPE, "other"),
            await answer(settings, Part.WORKER),
        ]
    after = await answer(settings, sub)

    assert not before.ok
    assert "no process of a subscriber on" in before.finding
    assert found.ok
    assert (meant.ok, meant.processes) == (True, [process.name])
    assert [other.ok for other in others] == [False, False, False]
    assert not after.ok


async def test_a_worker_is_well_while_the_event_loop_of_its_lanes_runs(
    manager: BackgroundFetchManager, settings: Settings
) -> None:
    engine = Engine(settings)
    await engine.start()
    await alive(manager, Role.WORKER)
    during = await answer(settings, Part.WORKER)
    await engine.aclose()
    after = await answer(settings, Part.WORKER)

    assert (during.ok, during.finding) == (True, f"1 of worker on {host_name()}")
    assert not after.ok


async def test_who_is_elsewhere_or_has_been_silent_for_a_lease_does_not_count(
    manager: BackgroundFetchManager, settings: Settings
) -> None:
    processes, ask = Processes(manager.connection), manager.connection.ask
    silent = Process(Role.WORKER, f"{host_name()}:1:ab")
    await processes.beat(Process(Role.WORKER, "elsewhere:1:ab"), LEASE)
    await processes.beat(silent, LEASE)
    await ask("ZINCRBY", PROCESSES, -10_000, silent.member)
    await ask("ZADD", PROCESSES, 2**50, "role-of-another-release host:1:ab ")

    found = await answer(settings, Part.WORKER)
    await processes.beat(Process(Role.WORKER, "other:1:ab"), LEASE)

    assert not found.ok
    assert await ask("ZSCORE", PROCESSES, silent.member) is None
    hosts = [process.host for process in await processes.alive()]
    assert sorted(hosts) == ["elsewhere", "other"]


@pytest.mark.parametrize("role", ["redis", "worker", "subscriber"])
def test_without_redis_nothing_is_well(
    role: str, bgfetch: Bgfetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 1: a container's health check knows 0 and 1 alone."""
    monkeypatch.setenv("BGFETCH_REDIS_URL", "redis://:s3cr3t@127.0.0.1:1")

    code, out, err = bgfetch("health", "--role", role)
    json_code, as_json, _ = bgfetch("health", "--role", role, "--json")

    assert (code, out, json_code) == (1, "", 1)
    assert err.count("\n") == 1
    assert json.loads(as_json)["ok"] is False
    assert "s3cr3t" not in err + as_json


def test_a_redis_that_may_lose_data_is_well_with_warnings(
    bgfetch: Bgfetch, redis_url: str
) -> None:
    with redis.Redis.from_url(redis_url) as client:
        good = bgfetch("health")
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            bad = bgfetch("health", "--role", "redis", "--json")
        finally:
            client.config_set("maxmemory-policy", "noeviction")

    assert (good[0], good[2]) == (0, "")
    assert bad[0] == 0
    [warning] = json.loads(bad[1])["warnings"]
    assert "set maxmemory-policy noeviction" in warning
