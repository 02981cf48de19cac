"""The history: retained fetches, page by page."""

from __future__ import annotations

import json

import pytest

from broker.keys import ScopeKeys
from broker.manager import BackgroundFetchManager
from schemas.errors import InvalidFilter
from tests.integration.clock import SCOPE
from tests.integration.commands import Bgfetch

URL = "https://cdn.example/1"


async def test_pages_have_no_gap_and_nothing_twice_while_others_fetch(
    manager: BackgroundFetchManager,
) -> None:
    """Issue: stable while new fetches arrive, and while old ones are forgotten."""
    made = [await manager.fetch(str(n), URL) for n in range(7)]

    pages = [await manager.history_page(limit=3)]
    await manager.fetch("new", URL)
    for shown in (made[6], made[4]):
        await manager.connection.ask("ZREM", ScopeKeys(SCOPE).fetches, shown.uid)
    while cursor := pages[-1].cursor:
        pages.append(await manager.history_page(limit=3, cursor=cursor))

    assert [[state.id for state in page.items] for page in pages] == [
        ["6", "5", "4"],
        ["3", "2", "1"],
        ["0"],
    ]
    assert [state.id for state in await manager.history(limit=2)] == ["new", "5"]
    with pytest.raises(InvalidFilter, match="'7' is no place"):
        await manager.history_page(cursor="7")


def test_the_command_goes_on_where_a_page_ended(bgfetch: Bgfetch) -> None:
    for id in ("a", "b", "c"):
        bgfetch("fetch", URL, "--id", id)

    _, newest, told = bgfetch("list", "--all", "--limit", "1", "--json")
    cursor = told.split()[-1]
    _, rest, end = bgfetch("list", "--all", "--cursor", cursor, "--json")

    rows = [*json.loads(newest), *json.loads(rest)]
    assert [row["id"] for row in rows] == ["c", "b", "a"]
    assert told.startswith("bgfetch: there are more: --cursor ")
    assert end == ""
    assert bgfetch("list", "--all", "--cursor", "x")[0] != 0
