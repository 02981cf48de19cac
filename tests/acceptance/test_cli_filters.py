"""``bgfetch subscribe --type --id --start``: the filter reaches every process (R21)."""

from __future__ import annotations

import json
from base64 import b64encode

import pytest

from broker import blocking
from broker.embedded import EmbeddedServer
from tests.acceptance.machine import Machine

SERVICE_WORKER = """
from workers import BackgroundFetchEvent, ServiceWorker

sw = ServiceWorker("podcasts", types=["backgroundfetchfail"])


@sw.on("backgroundfetchabort")
async def aborted(event: BackgroundFetchEvent) -> None:
    print("heard of", event.registration.id, flush=True)
"""


def test_a_filter_on_the_command_line_counts_for_all_processes(
    machine: Machine,
) -> None:
    (machine.home / "podcasts.py").write_text(SERVICE_WORKER)
    with EmbeddedServer.start(machine.home / "redis") as server:
        machine.environment |= {
            "BGFETCH_REDIS_URL": server.url,
            "BGFETCH_SCOPE": "podcasts",
        }
        with machine.running(
            *("subscribe", "podcasts:sw", "--processes", "2"),
            *("--type", "abort", "--type", "click", "--id", "ep-*", "--start", "2h"),
        ) as subscriber:
            subscriber.says("subscribed")
            subscriber.says("subscribed")
            with blocking.connect(server.url, scope="podcasts") as producer:
                for id in ("trailer", "ep-5"):
                    producer.fetch(id, "https://cdn.example/a").abort()
            subscriber.says("heard of ep-5")
            [row] = json.loads(machine.run("subscribers", "--json").out)
            subscriber.interrupt()
            code = subscriber.ends()

    assert code == 0
    assert "trailer" not in subscriber.text
    assert row["types"] == ["backgroundfetchabort", "backgroundfetchclick"]
    assert row["ids"] == "ep-*"


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("--type", "sucess"), 3, "no event 'sucess'"),
        (("--id", ""), 3, "'' is no pattern for ids"),
        (("--start", "yesterday"), 2, "'yesterday' is no time"),
    ],
)
def test_a_webhook_takes_a_filter_too(
    machine: Machine, arguments: tuple[str, ...], code: int, told: str
) -> None:
    secret = b64encode(b"s" * 24).decode()
    machine.environment |= {
        "BGFETCH_WEBHOOK_SECRET": f"whsec_{secret}",
        "BGFETCH_REDIS_URL": "redis://127.0.0.1:1",
    }

    ended = machine.run(
        *("webhook", "https://example.com/hook", "--scope", "podcasts"), *arguments
    )

    assert (ended.code, ended.out) == (code, "")
    assert told in ended.err


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("--type", "sucess"), 3, "no event 'sucess'"),
        (("--id", ""), 3, "'' is no pattern for ids"),
        (("--start", "yesterday"), 2, "'yesterday' is no time"),
    ],
)
def test_what_is_no_filter_is_told_in_one_line(
    machine: Machine, arguments: tuple[str, ...], code: int, told: str
) -> None:
    (machine.home / "podcasts.py").write_text(SERVICE_WORKER)
    machine.environment["BGFETCH_REDIS_URL"] = "redis://127.0.0.1:1"

    ended = machine.run("subscribe", "podcasts:sw", *arguments)

    assert (ended.code, ended.out) == (code, "")
    assert told in ended.err
    assert ended.err.count("\n") == 1
