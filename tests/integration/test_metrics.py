"""``/metrics``: what all processes did together, as Redis has counted it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from httpx2 import AsyncClient
from prometheus_client.parser import text_string_to_metric_families

from broker.connection import Connection
from broker.manager import BackgroundFetchManager
from broker.settings import Settings
from tests.integration.delivering import NOW, Process, begin, read
from tests.integration.working import perform
from workers.demo.origin import Origin
from workers.engine import Engine

DOCS = Path(__file__).parents[2] / "docs"
URL = "https://origin.example/file"


async def told(gateway: AsyncClient) -> dict[str, float]:
    """Every sample by its name and the labels that are not the test's scope."""
    answer = await gateway.get("/metrics")
    assert answer.status_code == 200, answer.text
    found = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            found[_name(sample.name, sample.labels)] = sample.value
    return found


def _name(name: str, labels: Mapping[str, str]) -> str:
    rest = [value for key, value in sorted(labels.items()) if key != "scope"]
    return f"{name}({','.join(rest)})" if rest else name


async def test_what_was_fetched_is_counted(
    gateway: AsyncClient,
    manager: BackgroundFetchManager,
    engine: Engine,
    origin: Origin,
) -> None:
    origin.add("/a", b"x" * 5000)
    good = await manager.fetch("good", origin.url("/a"))
    bad = await manager.fetch("bad", origin.url("/missing"))
    gone = await manager.fetch("gone", URL)
    await manager.fetch("active", URL)
    await perform(engine, good)
    await perform(engine, bad)
    await gone.abort()

    now = await told(gateway)

    assert now["bgfetch_fetches_registered_total"] == 4
    assert now["bgfetch_fetches_ended_total(success)"] == 1
    assert now["bgfetch_fetches_ended_total(bad-status)"] == 1
    assert now["bgfetch_fetches_ended_total(aborted)"] == 1
    assert now["bgfetch_fetches_ended_total(fetch-error)"] == 0
    assert now["bgfetch_fetch_duration_seconds_count"] == 3
    assert now["bgfetch_fetch_duration_seconds_sum"] > 0
    assert now["bgfetch_downloaded_bytes_total"] == good.downloaded + bad.downloaded
    assert (now["bgfetch_fetches_active"], now["bgfetch_fetches_retained"]) == (1, 4)
    assert now["bgfetch_events_published_total"] == 3
    assert now["bgfetch_jobs_queued(bgfetch)"] == 4


async def test_deliveries_are_counted_once_however_often_they_are_told(
    gateway: AsyncClient, manager: BackgroundFetchManager, process: Process
) -> None:
    sub = await process("mailer")
    for number in range(3):
        registration = await manager.fetch(f"fetch-{number}", URL)
        await registration.abort()
    first, second, _ = await read(sub)
    begun = await begin(sub, first)
    await sub.ack(begun)
    await sub.ack(begun)  # its answer was lost
    failing = await begin(sub, second)
    await sub.nack(failing, failed=True, delay=NOW, reason="no")
    await sub.nack(failing, failed=True, delay=NOW, reason="no")

    now = await told(gateway)

    assert now["bgfetch_deliveries_total(acked)"] == 1
    assert now["bgfetch_attempts_failed_total"] == 1
    assert now["bgfetch_subscriber_lag(mailer)"] == 0
    assert now["bgfetch_subscriber_pending(mailer)"] == 1
    assert now["bgfetch_subscriber_waiting(mailer)"] == 1
    assert now["bgfetch_subscriber_processes(mailer)"] == 1
    assert now["bgfetch_subscriber_oldest_seconds(mailer)"] > 0


async def test_every_measure_is_documented_and_every_panel_shows_one(
    gateway: AsyncClient, manager: BackgroundFetchManager, process: Process
) -> None:
    """docs/grafana.json is ready to be imported."""
    await process("mailer")
    names = {name.partition("(")[0] for name in await told(gateway)}
    manual = (DOCS / "gateway.md").read_text()
    board = json.loads((DOCS / "grafana.json").read_text())

    shown = {
        name
        for panel in board["panels"]
        for target in panel.get("targets", [])
        for name in re.findall(r"bgfetch_\w+", target["expr"])
    }

    assert shown
    assert shown <= names
    assert all(f"`{_family(name)}`" in manual for name in names)


def _family(name: str) -> str:
    return re.sub(r"_(sum|count)$", "", name)


async def test_a_gateway_lives_without_redis_and_is_not_ready(
    gateway: AsyncClient, settings: Settings
) -> None:
    ready = await gateway.get("/readyz")
    redis = Connection(settings.found_redis())
    await redis.ask("CLIENT", "PAUSE", 4000)

    alive = await gateway.get("/healthz")
    away = await gateway.get("/readyz")
    await redis.aclose()

    assert (ready.status_code, alive.status_code, away.status_code) == (200, 200, 503)
    assert away.json()["detail"] == "Redis did not answer within 2 s"
