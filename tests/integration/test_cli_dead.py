"""``bgfetch dead``: what it prints, refuses and does, on a real Redis."""

from __future__ import annotations

import asyncio
import io
import json
from datetime import timedelta

import pytest

from broker.deliveries import Begun, Delivery
from broker.manager import connect
from broker.settings import Settings
from broker.stream import Subscription
from schemas.events import EventMessage
from tests.integration.commands import Bgfetch
from tests.integration.delivering import hand_over

URL = "https://cdn.example/1"
SCOPE = "podcasts"


@pytest.fixture
def delivery_id(settings: Settings) -> str:
    """A dead letter: the abort event of fetch 'x', after one failure."""
    return asyncio.run(fail_once(settings))


async def fail_once(settings: Settings) -> str:
    settings = settings.model_copy(update={"max_deliveries": 1})
    async with connect(scope=SCOPE, settings=settings) as manager:
        sub = Subscription(manager.connection, settings, SCOPE, "a")
        await sub.join()
        await (await manager.fetch("x", URL)).abort()
        [(entry, message)] = await hand_over(sub, 1)
        delivery = Delivery(entry, EventMessage.decode(message), "a")
        begun = await sub.begin(delivery)
        assert isinstance(begun, Begun)
        await sub.nack(begun, failed=True, delay=timedelta(0), reason="ValueError: no")
        await sub.aclose()
        return delivery.delivery_id


def test_a_dead_letter_is_listed_and_shown(bgfetch: Bgfetch, delivery_id: str) -> None:
    code, listed, _ = bgfetch("dead", "list", "--type", "abort")
    _, rows, _ = bgfetch("dead", "list", "--json")
    _, shown, _ = bgfetch("dead", "show", delivery_id)
    _, whole, _ = bgfetch("dead", "show", delivery_id, "--json")
    _, other, _ = bgfetch("dead", "list", "--id", "y", "--json")

    [row] = json.loads(rows)
    assert code == 0
    assert listed.startswith(f"{delivery_id}\tfailed\tbackgroundfetchabort\tx\t1\t")
    assert row == json.loads(whole)
    assert row["delivery"] == delivery_id
    assert row["attempts"][0]["reason"] == "ValueError: no"
    assert row["attempts"][0]["at"].endswith("Z")
    assert "ValueError: no" in shown.splitlines()[-1]
    assert json.loads(other) == []


def test_a_replay_leaves_no_dead_letter(bgfetch: Bgfetch, delivery_id: str) -> None:
    code, out, _ = bgfetch("dead", "replay", "--subscriber", "a", "--json")
    again, _, err = bgfetch("dead", "replay", delivery_id)

    assert code == 0
    assert json.loads(out) == [{"delivery": delivery_id, "replayed": True}]
    assert again == 1
    assert "no such dead letter" in err


def test_a_purge_where_nobody_can_be_asked_needs_yes(
    bgfetch: Bgfetch, delivery_id: str
) -> None:
    refused, _, told = bgfetch("dead", "purge", delivery_id)
    purged, _, done = bgfetch("dead", "purge", delivery_id, "--yes")
    _, left, _ = bgfetch("dead", "list", "--json")

    assert refused == 2
    assert "--yes" in told
    assert purged == 0
    assert "1 dead letter purged" in done
    assert json.loads(left) == []


@pytest.mark.parametrize(("answer", "code"), [("n\n", 130), ("y\n", 0)])
def test_at_a_terminal_a_purge_asks(
    bgfetch: Bgfetch,
    delivery_id: str,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    code: int,
) -> None:
    terminal = io.StringIO(answer)
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", terminal)

    ended, _, asked = bgfetch("dead", "purge", delivery_id)
    _, left, _ = bgfetch("dead", "list", "--json")

    assert ended == code
    assert "purge 1 dead letter of scope 'podcasts'?" in asked
    assert len(json.loads(left)) == (1 if code else 0)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("purge", "--yes"), "say which"),
        (("replay",), "say which"),
        (("replay", "--all", "--id", "x"), "say which"),
        (("list", "--type", "progress"), "--type must be one of"),
    ],
)
def test_a_command_that_does_not_say_which_letters_is_refused(
    bgfetch: Bgfetch, arguments: tuple[str, ...], told: str
) -> None:
    code, _, err = bgfetch("dead", *arguments)

    assert code == 2
    assert told in err
