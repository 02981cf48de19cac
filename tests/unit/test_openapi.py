"""The OpenAPI document says of every route what who calls it has to know."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from broker.gateway import create_app
from broker.gateway.documents import PROBLEM
from broker.gateway.problems import kinds
from broker.settings import Settings

DOCUMENT = create_app(Settings.model_construct()).openapi()
# Those answer as other protocols say.
OTHERS = ("/healthz", "/readyz", "/metrics", "/session/")

Operation = tuple[str, str, dict[str, Any]]


def operations() -> list[Operation]:
    """Method, path and description of every operation of the API."""
    return [
        (method, path, operation)
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
        if not path.startswith(OTHERS)
    ]


def name(operation: Operation) -> str:
    """The operation's own name."""
    found: str = operation[2]["operationId"]
    return found


def test_operations_have_names_of_their_own() -> None:
    names = [name(each) for each in operations()]

    assert len(names) == len(set(names)) >= 30


@pytest.mark.parametrize("operation", operations(), ids=name)
def test_an_operation_says_what_it_does_and_how_it_answers(
    operation: Operation,
) -> None:
    method, path, described = operation
    tags = {tag["name"] for tag in DOCUMENT["tags"]}

    assert described["summary"]
    assert described["description"]
    assert set(described["tags"]) <= tags
    for each in described.get("parameters", ()):
        known = each["name"] in ("scope", "uid", "name", "kind")
        assert known or each.get("description"), each["name"]
    responses = described["responses"]
    assert any(status.startswith("2") for status in responses)
    for status, response in responses.items():
        assert response["description"]
        if status[0] in "45":
            assert PROBLEM in response["content"], status
    if path.startswith("/api/"):
        assert {"401", "403", "422", "503"} <= set(responses)
    if "{uid}" in path:
        assert "404" in responses
    if method in ("post", "put", "delete", "patch"):
        assert {"409", "415"} <= set(responses)


def test_every_reference_leads_somewhere() -> None:
    schemas = DOCUMENT["components"]["schemas"]

    for reference in references(DOCUMENT):
        assert reference.removeprefix("#/components/schemas/") in schemas


def test_the_problems_that_are_told_have_a_page() -> None:
    told = set(re.findall(r"`/problems/([a-z-]+)`", json.dumps(DOCUMENT)))

    assert told <= set(kinds())
    assert {"duplicate-fetch", "wrong-form", "idempotency-key-reused"} <= told


def test_what_is_registered_has_an_example() -> None:
    form = DOCUMENT["components"]["schemas"]["FetchForm"]

    for member in ("id", "requests", "title"):
        assert form["properties"][member]["examples"]


def references(value: object) -> Iterator[str]:
    """Every ``$ref`` in a document."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)
