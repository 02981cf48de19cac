"""Errors as problem details (RFC 9457): a status and a type for each class of ours.

The type is a path of the gateway itself, ``/problems/<kind>``, which says what it
means. Beside the members of the RFC, ``name`` is the name that the specification has
for the error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from broker.gateway.refusals import Refusal, WrongForm
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
    errors.InvalidFilter: HTTPStatus.UNPROCESSABLE_ENTITY,
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
        None, description="where several things are wrong: each of them"
    )


class ProblemKind(BaseModel):
    """What all problems of one type have in common."""

    model_config = ConfigDict(frozen=True)

    type: str = Field(examples=["/problems/duplicate-fetch"])
    title: str
    status: int
    description: str = Field(description="when it happens, in full")
    name: str | None = Field(None, description="the error's name in the specification")


def kind_of(error: type[Exception]) -> str:
    """The last part of a problem's type: the class's name with hyphens."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", error.__name__).lower()


def kinds() -> dict[str, ProblemKind]:
    """Every type of problem that the gateway tells, by the last part of its name."""
    found: list[type[Exception]] = [*STATUS, *Refusal.__subclasses__()]
    return {kind_of(error): _kind(error) for error in found}


def _kind(error: type[Exception]) -> ProblemKind:
    paragraphs = (error.__doc__ or "").split("\n\n")
    return ProblemKind(
        type=f"/problems/{kind_of(error)}",
        title=" ".join(paragraphs[0].split()),
        status=error.status if issubclass(error, Refusal) else _status(error),
        description="\n\n".join(" ".join(part.split()) for part in paragraphs),
        name=getattr(error, "spec_name", None),
    )


def _status(error: type[Exception]) -> HTTPStatus:
    return next(STATUS[kind] for kind in error.__mro__ if kind in STATUS)


def problem_of(error: BackgroundFetchError | Refusal) -> Problem:
    """Tell an error as a problem."""
    kind = _kind(type(error))
    return Problem(
        type=kind.type,
        title=kind.title,
        status=kind.status,
        detail=" ".join(str(error).split()),
        name=kind.name,
        errors=error.errors if isinstance(error, Refusal) else None,
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
    app.add_exception_handler(Refusal, _refusal)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _wrong_form)
    app.add_exception_handler(ClientDisconnect, _nobody)
    app.add_exception_handler(Exception, _broken)


async def _ours(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, BackgroundFetchError)
    problem = problem_of(error)
    away = problem.status == HTTPStatus.SERVICE_UNAVAILABLE
    return answer(problem, {"Retry-After": str(RETRY_AFTER_SECONDS)} if away else None)


async def _refusal(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refusal)
    return answer(problem_of(error), error.headers)


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_methods(request))
    return answer(plain(HTTPStatus(error.status_code), error.detail), headers)


def _methods(request: Request) -> list[str]:
    """What may be done under an address, by any of the routes that have it."""
    return [
        method
        for method in ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in request.app.routes
        )
    ]


async def _wrong_form(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return answer(problem_of(WrongForm.of(error.errors())))


async def _nobody(request: Request, error: Exception) -> JSONResponse:
    # Nobody reads this: the client has gone before it had sent everything.
    return answer(plain(HTTPStatus.BAD_REQUEST, "the request has no end"))


async def _broken(request: Request, error: Exception) -> JSONResponse:
    # What it was is in the log alone: strangers may read this.
    return answer(plain(HTTPStatus.INTERNAL_SERVER_ERROR, "this is an error of ours"))


def plain(status: HTTPStatus, detail: str) -> Problem:
    """A problem that its status alone tells apart."""
    return Problem(
        type="about:blank", title=status.phrase, status=status, detail=detail
    )
