"""The API beside a model of its specification, whatever happens in whatever order."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machine import ApiMachine

# The same choices each time, and no search for the shortest program, which may take
# minutes: `python3 run.py torture api` makes other choices, and searches.
BOUNDED = settings(
    max_examples=50,
    stateful_step_count=30,
    derandomize=True,
    phases=[Phase.generate],
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def machine(redis_url: str) -> type[ApiMachine]:
    """Random calls on this test's own server."""
    ApiMachine.url = redis_url
    return ApiMachine


@pytest.mark.timeout(600)
def test_random_interleavings_end_as_the_specification_says(
    machine: type[ApiMachine],
) -> None:
    """R1, R10 to R14, R18 to R23, R25; BF-STATE-02, -05, -07, -08, BF-GET-07,
    BF-FETCH-09, BF-PERF-05 to -07, BF-ABORT-02 to -04, BF-EVT-05, BF-MATCH-01,
    BF-LIFE-04.
    """
    run_state_machine_as_test(machine, settings=BOUNDED)
