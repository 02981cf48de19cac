"""``bgfetch origins``, and what ``get`` says of records that wait for one."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest

from broker.manager import connect
from broker.origins import OriginReport, Origins
from broker.settings import Settings
from tests.integration.clock import SCOPE
from tests.integration.commands import Bgfetch

URL = "https://cdn.example"


async def ask(settings: Settings, complaint: str = "", pause: int = 0) -> None:
    """Use an origin with three exchanges, and be told off perhaps; register a fetch."""
    async with connect(scope=SCOPE, settings=settings) as manager:
        report = OriginReport(
            URL, 3, 3, 3, 0.0, complaint=complaint, pause=timedelta(seconds=pause)
        )
        await Origins(manager.connection, settings).renew([report])
        if await manager.get("x") is None:
            await manager.fetch("x", [f"{URL}/1", "https://other.example/2"])


def test_an_origin_is_listed_with_its_limit_and_its_reason(
    bgfetch: Bgfetch, settings: Settings
) -> None:
    _, before, _ = bgfetch("origins", "--json")
    asyncio.run(ask(settings))
    code, well, _ = bgfetch("origins")
    asyncio.run(ask(settings, "status 429", pause=600))

    _, line, _ = bgfetch("origins")
    _, rows, _ = bgfetch("origins", "--json")

    assert (json.loads(before), code) == ([], 0)
    assert well == f"{URL}\t3\t32\t32\t\t\t\t\n"
    assert line.startswith(f"{URL}\t6\t16\t32\t\t9 min ")
    assert line.endswith("\tstatus 429\n")
    [row] = json.loads(rows)
    assert row.pop("loweredAt") < row.pop("pausedUntil")
    assert row == {
        "origin": URL,
        "inUse": 6,
        "processes": 2,
        "limit": 16,
        "base": 32,
        "rate": None,
        "reason": "status 429",
    }


@pytest.mark.parametrize(
    ("pause", "told"),
    [
        (0, "the origin is limited to 16 of 32: status 503"),
        (9000, "the origin is left alone for 2 h 29 min: status 503"),
    ],
)
def test_a_record_tells_that_it_waits_for_its_origin(
    bgfetch: Bgfetch, settings: Settings, pause: int, told: str
) -> None:
    asyncio.run(ask(settings, "status 503", pause))

    _, lines, _ = bgfetch("get", "x")
    _, as_json, _ = bgfetch("get", "x", "--json")

    rows = json.loads(as_json)["recordList"]
    assert [row["waitsFor"] for row in rows] == [told, ""]
    assert lines.count(told) == 1
