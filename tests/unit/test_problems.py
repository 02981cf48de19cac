"""Errors as problem details (RFC 9457)."""

from __future__ import annotations

import pytest

from broker.gateway.problems import STATUS, kind_of, problem_of
from schemas import errors


def every_error() -> list[type[errors.BackgroundFetchError]]:
    """Every class of the error tree."""
    found = [errors.BackgroundFetchError]
    for each in found:
        found += each.__subclasses__()
    return [each for each in found if each.__module__ == "schemas.errors"]


def test_every_error_has_a_status_of_its_own() -> None:
    assert set(STATUS) == set(every_error())


@pytest.mark.parametrize("kind", every_error(), ids=kind_of)
def test_a_problem_tells_what_the_error_tells(
    kind: type[errors.BackgroundFetchError],
) -> None:
    problem = problem_of(kind("the id 'x' is taken\nby another"))

    assert problem.status == STATUS[kind]
    assert problem.name == kind.spec_name
    assert problem.detail == "the id 'x' is taken by another"
    assert problem.type == f"/problems/{kind_of(kind)}"
    assert problem.title.endswith(".")
