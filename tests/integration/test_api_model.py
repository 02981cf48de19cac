"""The API beside a model of its specification, whatever happens in whatever order."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from redis.exceptions import ResponseError

from broker import scripts
from tests.model.machine import ApiMachine
from tests.model.mutants import MUTANTS, Mutant

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

# Each of these shows within a few rounds; others take more than a test may.
SHOWN_SOON = {
    "the id stays taken",
    "an id is taken twice",
    "an abort does not look at the map",
    "a repeated abort is a second one",
    "a repeated click is a second one",
    "a dead lane goes on",
}


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


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_what_a_mutant_changes_is_there(mutant: Mutant) -> None:
    with mutant.at_large():
        assert mutant.wrong in scripts.script(mutant.script).source


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "mutant",
    [each for each in MUTANTS if each.name in SHOWN_SOON],
    ids=lambda mutant: mutant.name,
)
def test_a_script_with_one_thing_wrong_is_found_out(
    machine: type[ApiMachine], mutant: Mutant
) -> None:
    """A judge that finds nothing proves nothing."""
    found = settings(BOUNDED, report_multiple_bugs=False)

    with (
        mutant.at_large(),
        pytest.raises((AssertionError, ResponseError, pytest.fail.Exception)),
    ):
        run_state_machine_as_test(machine, settings=found)
