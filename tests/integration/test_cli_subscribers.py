"""``bgfetch subscribers`` and ``unsubscribe``, on a real Redis."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

from broker.deliveries import Begun, Delivery
from broker.manager import connect
from broker.settings import Settings
from broker.stream import Subscription
from schemas.events import EventMessage
from tests.integration.clock import SCOPE, Clock
from tests.integration.commands import Bgfetch
from tests.integration.delivering import hand_over


async def subscribe(settings: Settings, *, then_die: bool = False) -> None:
    """Join as 'mailer', publish an event that nobody reads, and maybe die."""
    async with connect(scope=SCOPE, settings=settings) as manager:
        sub = Subscription(manager.connection, settings, SCOPE, "mailer")
        await sub.join()
        await sub.aclose()
        await (await manager.fetch("x", "https://cdn.example/1")).abort()
        if then_die:
            await Clock(manager).age_deliveries("mailer", timedelta(hours=1))


def test_subscribers_are_listed(bgfetch: Bgfetch, settings: Settings) -> None:
    _, before, _ = bgfetch("subscribers", "--json")
    asyncio.run(subscribe(settings))

    code, line, _ = bgfetch("subscribers")
    _, rows, _ = bgfetch("subscribers", "--json", "--scope", SCOPE)

    [row] = json.loads(rows)
    assert json.loads(before) == []
    assert code == 0
    assert line.startswith("mailer\t1\t1\t0\t0\t0\t")
    assert row.pop("oldestSeconds") > 0
    assert row == {
        "subscriber": "mailer",
        "processes": 1,
        "lag": 1,
        "pending": 0,
        "waiting": 0,
        "dead": 0,
        "state": "active",
        "types": [
            "backgroundfetchabort",
            "backgroundfetchclick",
            "backgroundfetchfail",
            "backgroundfetchsuccess",
        ],
        "ids": "*",
        "excluded": 0,
    }


def test_a_subscriber_is_removed_once_its_processes_have_ended(
    bgfetch: Bgfetch, settings: Settings
) -> None:
    asyncio.run(subscribe(settings))
    alive, _, told = bgfetch("unsubscribe", SCOPE, "mailer", "--yes")
    asyncio.run(subscribe(settings, then_die=True))

    unasked, _, refused = bgfetch("unsubscribe", SCOPE, "mailer")
    code, out, _ = bgfetch("unsubscribe", SCOPE, "mailer", "--yes", "--json")
    again, _, none = bgfetch("unsubscribe", SCOPE, "mailer", "--yes")
    _, left, _ = bgfetch("subscribers", "--json")

    assert alive == 1
    assert "has live processes" in told
    assert unasked == 2
    assert "--yes" in refused
    assert code == 0
    assert json.loads(out) == {"scope": SCOPE, "subscriber": "mailer", "removed": True}
    assert again == 1
    assert "no subscriber 'mailer'" in none
    assert json.loads(left) == []


def test_a_subscriber_is_paused_and_resumed(
    bgfetch: Bgfetch, settings: Settings
) -> None:
    asyncio.run(subscribe(settings))

    paused, told, _ = bgfetch("subscribers", "pause", "mailer", "--json")
    _, shown, _ = bgfetch("subscribers")
    resumed, nothing, _ = bgfetch("subscribers", "resume", "mailer", "-s", SCOPE)
    _, rows, _ = bgfetch("subscribers", "--json")
    unknown, _, none = bgfetch("subscribers", "pause", "nobody")

    assert (paused, resumed, unknown) == (0, 0, 1)
    assert json.loads(told) == {"scope": SCOPE, "subscriber": "mailer", "paused": True}
    assert "\tpaused\t*\t*\t0" in shown
    assert nothing == ""
    assert json.loads(rows)[0]["state"] == "active"
    assert "no subscriber 'nobody'" in none


def test_an_option_before_the_verb_is_refused(bgfetch: Bgfetch) -> None:
    """It would be the list's, and the scope another than was meant."""
    code, _, told = bgfetch("subscribers", "--scope", "other", "pause", "mailer")

    assert code == 2
    assert "write --scope after `subscribers pause`" in told


def test_a_time_range_is_replayed(bgfetch: Bgfetch, settings: Settings) -> None:
    async def handle() -> None:
        async with connect(scope=SCOPE, settings=settings) as manager:
            sub = Subscription(manager.connection, settings, SCOPE, "mailer")
            await sub.join()
            await (await manager.fetch("x", "https://cdn.example/1")).abort()
            [(entry, message)] = await hand_over(sub, 1)
            delivery = Delivery(entry, EventMessage.decode(message), "mailer")
            begun = await sub.begin(delivery)
            assert isinstance(begun, Begun)
            await sub.ack(begun)
            await sub.aclose()

    asyncio.run(handle())

    code, out, _ = bgfetch("replay", SCOPE, "mailer", "--since", "1h", "--json")
    again, _, told = bgfetch("replay", SCOPE, "mailer", "--since", "2000-01-01")
    none, _, nothing = bgfetch(
        "replay", SCOPE, "mailer", "--since", "2h", "--until", "1h"
    )
    wrong, _, refused = bgfetch("replay", SCOPE, "mailer", "--since", "yesterday")

    assert (code, again, none, wrong) == (0, 0, 1, 2)
    assert json.loads(out) == {"scope": SCOPE, "subscriber": "mailer", "replayed": 1}
    assert "1 delivery comes again" in told
    assert "nothing to replay for subscriber 'mailer'" in nothing
    assert "'yesterday' is no time" in refused
