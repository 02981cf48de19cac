"""Errors as problem details (RFC 9457): a status and a type for each class of ours.

The type is a path of the gateway itself, ``/problems/<kind>``. Beside the members of
the RFC, ``name`` is the name that the specification has for the error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from broker.gateway.access import Forbidden, TooMany
from schemas import errors
from schemas.errors import BackgroundFetchError

RETRY_AFTER_SECONDS = 5

# The nearest class of an error's ancestors decides.
STATUS: Mapping[type[BackgroundFetchError], HTTPStatus] = {
    errors.BackgroundFetchError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.RejectedFetch: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.InvalidName: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.InvalidRequest: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.InvalidURL: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.ForbiddenAddress: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.InvalidOptions: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.NoActiveWorker: HTTPStatus.CONFLICT,
    errors.DuplicateFetch: HTTPStatus.CONFLICT,
    errors.RecordFailed: HTTPStatus.FAILED_DEPENDENCY,
    errors.UndecodableBody: HTTPStatus.FAILED_DEPENDENCY,
    errors.Aborted: HTTPStatus.GONE,
    errors.NotAllowed: HTTPStatus.FORBIDDEN,
    errors.QuotaExceeded: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.InvalidState: HTTPStatus.CONFLICT,
    errors.InvalidAccess: HTTPStatus.FORBIDDEN,
    errors.Failure: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.Unreachable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.StartError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.ConfigError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.StorageError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.InvalidMessage: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.NewerMessage: HTTPStatus.INTERNAL_SERVER_ERROR,
}


class Problem(BaseModel):
    """Why a request was not carried out (RFC 9457)."""

    model_config = ConfigDict(frozen=True)

    type: str = Field(examples=["/problems/duplicate-fetch"])
    title: str
    status: int
    detail: str = Field(description="what was wrong, with the value, and the fix")
    name: str | None = Field(
        None,
        description="the error's name in the specification",
        examples=["TypeError"],
    )
    errors: list[dict[str, Any]] | None = Field(
        None, description="of a request with a wrong form: each wrong value"
    )


class NotFound(Exception):
    """There is nothing under this address."""


def kind_of(error: type[Exception]) -> str:
    """The last part of a problem's type: the class's name with hyphens."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", error.__name__).lower()


def problem_of(error: BackgroundFetchError) -> Problem:
    """Tell an error of ours as a problem."""
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    title = (type(error).__doc__ or "").partition("\n")[0]
    return Problem(
        type=f"/problems/{kind_of(type(error))}",
        title=title,
        status=status,
        detail=" ".join(str(error).split()),
        name=error.spec_name,
    )


def answer(problem: Problem, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The response that tells a problem."""
    return JSONResponse(
        problem.model_dump(exclude_none=True),
        problem.status,
        headers=dict(headers or {}),
        media_type="application/problem+json",
    )


def tell_problems(app: FastAPI) -> None:
    """Answer every error of ``app`` with problem details."""
    app.add_exception_handler(BackgroundFetchError, _ours)
    app.add_exception_handler(NotFound, _not_found)
    app.add_exception_handler(Forbidden, _forbidden)
    app.add_exception_handler(TooMany, _too_many)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _wrong_form)


async def _ours(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, BackgroundFetchError)
    problem = problem_of(error)
    away = problem.status == HTTPStatus.SERVICE_UNAVAILABLE
    return answer(problem, {"Retry-After": str(RETRY_AFTER_SECONDS)} if away else None)


async def _not_found(request: Request, error: Exception) -> JSONResponse:
    return answer(plain(HTTPStatus.NOT_FOUND, str(error)))


async def _forbidden(request: Request, error: Exception) -> JSONResponse:
    return answer(plain(HTTPStatus.FORBIDDEN, str(error)))


async def _too_many(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, TooMany)
    told = plain(HTTPStatus.TOO_MANY_REQUESTS, str(error))
    return answer(told, {"Retry-After": str(math.ceil(error.seconds))})


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return answer(plain(HTTPStatus(error.status_code), error.detail), error.headers)


async def _wrong_form(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    each = [
        {"where": ".".join(map(str, one["loc"])), "message": one["msg"]}
        for one in error.errors()
    ]
    told = "; ".join(f"{one['where']}: {one['message']}" for one in each)
    problem = Problem(
        type="/problems/wrong-form",
        title="The request has the wrong form.",
        status=HTTPStatus.UNPROCESSABLE_ENTITY,
        detail=told,
        name="TypeError",
        errors=each,
    )
    return answer(problem)


def plain(status: HTTPStatus, detail: str) -> Problem:
    """A problem that its status alone tells apart."""
    return Problem(
        type="about:blank", title=status.phrase, status=status, detail=detail
    )
