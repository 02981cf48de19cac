"""The HTTP API does what its own OpenAPI document says, whatever it is sent."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import schemathesis
from anyio import to_thread
from httpx2 import AsyncClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks

from broker.gateway import create_app
from broker.manager import BackgroundFetchManager
from broker.settings import Settings
from tests.integration.clock import SCOPE
from tests.integration.working import perform
from workers.demo.origin import Origin
from workers.engine import Engine

DOCUMENT = create_app(Settings.model_construct()).openapi()
CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
TAGS = ("fetches", "actions", "records", "scopes", "automation", "problems")
EXAMPLES = 5
MOST_WAIT = 0.01


def operations(tag: str) -> list[str]:
    """The names of the operations with a tag."""
    return [
        operation["operationId"]
        for methods in DOCUMENT["paths"].values()
        for operation in methods.values()
        if tag in operation.get("tags", ())
    ]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("tag", TAGS)
async def test_operations_answer_as_they_are_described(
    gateway: AsyncClient,
    manager: BackgroundFetchManager,
    engine: Engine,
    origin: Origin,
    tag: str,
) -> None:
    """No answer is an error of ours, or one that the document does not know.

    Every second case is about a fetch that exists, and has a body to read.
    """
    origin.add("/a", b"some bytes")
    fetch = await perform(engine, await manager.fetch("x", origin.url("/a")))
    there = {"scope": SCOPE, "uid": fetch.uid, "index": 0}
    schema = schemathesis.openapi.from_dict(DOCUMENT)

    failures: list[str] = []
    for name in operations(tag):
        for mode in GenerationMode:
            operation = schema.find_operation_by_id(name)
            cases = operation.as_strategy(generation_mode=mode)
            attempt = partial(tried, cases, str(gateway.base_url), there)
            failures += await to_thread.run_sync(attempt)

    assert failures == []


def tried(cases: Any, base_url: str, there: dict[str, Any]) -> list[str]:
    """Send some cases; return what is wrong with the answers."""
    failures: list[str] = []
    count = 0

    @given(case=cases)
    @settings(
        max_examples=EXAMPLES,
        phases=[Phase.generate],
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    def attempt(case: Any) -> None:
        nonlocal count
        count += 1
        if count % 2 and "uid" in (case.path_parameters or {}):
            for name in case.path_parameters.keys() & there.keys():
                case.path_parameters[name] = there[name]
        query = case.query if isinstance(case.query, dict) else {}
        if isinstance(query.get("wait"), int | float):
            query["wait"] = min(query["wait"], MOST_WAIT)
        try:
            case.call_and_validate(base_url=base_url, checks=CHECKS, timeout=60)
        except FailureGroup as failure:
            failures.append(f"{case.method} {case.path}: {failure}")

    with suppress(Unsatisfiable):  # there is nothing that could be wrong in a request
        attempt()
    return failures
