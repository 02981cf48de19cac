"""The OpenAPI document: what routes say of their problems, and what it is made of."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from broker.gateway import refusals
from broker.gateway.access import Forbidden, TooMany
from broker.gateway.forms import FetchForm
from broker.gateway.problems import Problem, kind_of, kinds
from schemas import errors

PROBLEM = "application/problem+json"

ABOUT = """
Register downloads, look at them, read what they brought, and click them, over HTTP.

Names are those of the specification of Background Fetch. Errors are problem details
(RFC 9457), whose `type` says what they mean. A request with an `Idempotency-Key` is
carried out once, however often it is sent.
"""
TAGS = [
    {"name": "fetches", "description": "Background fetches: register, find, watch."},
    {"name": "actions", "description": "What people and programs do to a fetch."},
    {
        "name": "records",
        "description": "The requests of a fetch, and what they brought.",
    },
    {
        "name": "deliveries",
        "description": "Events, for subscribers in any language.",
    },
    {
        "name": "subscribers",
        "description": "Who handles events: how they get on, and what they gave up.",
    },
    {
        "name": "service",
        "description": "Processes, queues and origins of the whole service.",
    },
    {"name": "events", "description": "What happens, as server-sent events."},
    {"name": "scopes", "description": "Who owns fetches, and the rules for them."},
    {"name": "automation", "description": "WebDriver's extension command."},
    {"name": "problems", "description": "What errors mean."},
]


_COMMON = (
    refusals.WrongForm,
    errors.InvalidName,
    refusals.NotAcceptable,
    Forbidden,
    TooMany,
    errors.Unreachable,
)


def problems(*others: type[Exception]) -> dict[int | str, dict[str, Any]]:
    """Describe the problems with which a route may answer, for ``responses=``.

    Those of every route are among them.
    """
    known = kinds()
    found: dict[int | str, list[str]] = {}
    for each in dict.fromkeys((*_COMMON, *others)):
        kind = known[kind_of(each)]
        found.setdefault(kind.status, []).append(f"`{kind.type}`: {kind.title}")
    found.setdefault(HTTPStatus.UNAUTHORIZED, ["Who sends this is not known."])
    return {status: _response(told) for status, told in found.items()}


def _response(told: list[str]) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": "\n".join(told), "content": {PROBLEM: {"schema": schema}}}


WRITING: tuple[type[Exception], ...] = (
    refusals.IdempotencyKeyInUse,
    refusals.IdempotencyKeyReused,
    refusals.UnsupportedContent,
    refusals.ContentTooLarge,
    errors.QuotaExceeded,
)
"""Those of every route that changes something."""

_MODELS: tuple[type[BaseModel], ...] = (Problem, FetchForm)


def describe(app: FastAPI) -> None:
    """Have the document carry the models that routes only name."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = made()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            for model in _MODELS:
                schema = model.model_json_schema(
                    ref_template="#/components/schemas/{model}"
                )
                for name, part in schema.pop("$defs", {}).items():
                    schemas.setdefault(name, part)
                schemas[model.__name__] = schema
        return made()

    app.openapi = openapi  # type: ignore[method-assign]
