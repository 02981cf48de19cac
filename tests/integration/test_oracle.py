"""Chromium's own implementation as an oracle: the same scenarios, the traces compared.

``python3 run.py oracle record`` makes the traces of Chromium anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from broker.settings import Settings
from tests.conformance.tables import load as load_rows
from tests.oracle.__main__ import FIXTURE
from tests.oracle.differences import TABLES, differences, excuses, idle, unexplained
from tests.oracle.native import record
from tests.oracle.ours import Ours
from tests.oracle.scenarios import Stage, load
from workers.demo.origin import Origin
from workers.engine import Engine

SCENARIOS = load()
ROWS = load_rows()
TRACES = json.loads(FIXTURE.read_text())["traces"]
EXCUSES = excuses()
RECORDED_LIVE = "success"


@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_scenario_ends_as_in_chromium_or_a_table_tells_why_not(
    name: str, settings: Settings, engine: Engine, origin: Origin
) -> None:
    """BF-FETCH-20, -22, BF-MATCH-01, BF-OBJ-08; where the tables say so, not Chromium.

    Every difference is one of ours, or of Chromium's, against the specification.
    """
    scenario = SCENARIOS[name]
    stage = Stage(origin, scenario)

    async with Ours(settings, engine, stage, scenario.worker) as ours:
        trace = await stage.play(ours)

    found = differences(name, TRACES[name], json.loads(json.dumps(trace)))
    assert unexplained(found, EXCUSES) == []
    assert idle(name, found, EXCUSES) == []


def test_every_entry_of_the_tables_is_about_a_scenario_and_a_row() -> None:
    patterns = [pattern for each in EXCUSES for pattern in each.where]

    assert {each.row for each in EXCUSES} - {row.id for row in ROWS.rows} == set()
    assert {each.partition("/")[0] for each in patterns} - set(SCENARIOS) == set()
    assert all(each.why for each in EXCUSES)


def test_a_row_is_a_deviation_where_ours_differs_and_nowhere_else() -> None:
    """Our decisions stand in one place, what Chromium does in another."""
    ours, theirs = (
        {each.row for each in EXCUSES if each.table == table} for table in TABLES
    )

    assert ours <= set(ROWS.deviations)
    assert theirs & set(ROWS.deviations) == set()


def test_the_traces_are_of_the_scenarios_that_there_are() -> None:
    assert set(TRACES) == set(SCENARIOS)


@pytest.mark.tool("chromium")
@pytest.mark.timeout(300)
async def test_chromium_does_what_was_recorded(tool: Callable[[str], str]) -> None:
    """One scenario, so that the recorder works on the day that it is needed."""
    _, traces = await record(tool("chromium"), [SCENARIOS[RECORDED_LIVE]])

    assert traces == {RECORDED_LIVE: TRACES[RECORDED_LIVE]}
