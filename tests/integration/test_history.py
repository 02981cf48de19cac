"""``history()``: retained fetches, page by page."""

from __future__ import annotations

import json

from broker.keys import ScopeKeys
from broker.manager import BackgroundFetchManager
from tests.integration.clock import SCOPE
from tests.integration.commands import Bgfetch

URL = "https://cdn.example/1"


async def test_pages_have_no_gap_and_nothing_twice_while_others_fetch(
    manager: BackgroundFetchManager,
) -> None:
    """Issue: stable while new fetches arrive, and while old ones are forgotten."""
    made = [await manager.fetch(str(n), URL) for n in range(7)]

    first = await manager.history(limit=3)
    await manager.fetch("new", URL)
    await manager.connection.ask("ZREM", ScopeKeys(SCOPE).fetches, made[6].uid)
    second = await manager.history(limit=3, before=first[-1].seq)
    third = await manager.history(limit=3, before=second[-1].seq)
    last = await manager.history(limit=3, before=third[-1].seq)

    pages = [[state.id for state in page] for page in (first, second, third, last)]
    assert pages == [["6", "5", "4"], ["3", "2", "1"], ["0"], []]


def test_the_command_goes_on_after_a_fetch(bgfetch: Bgfetch) -> None:
    for id in ("a", "b", "c"):
        bgfetch("fetch", URL, "--id", id)

    newest = json.loads(bgfetch("list", "--all", "--limit", "1", "--json")[1])
    seq = str(newest[0]["seq"])
    rest = json.loads(bgfetch("list", "--all", "--before", seq, "--json")[1])

    assert [row["id"] for row in (*newest, *rest)] == ["c", "b", "a"]
