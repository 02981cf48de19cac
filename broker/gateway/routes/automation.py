"""WebDriver's extension command for background fetches (§ Automation).

A session of WebDriver drives one browser window, whose page has one registration of a
service worker. Here there are no windows: what a session leads to is its *scope*, so
the name of the scope is the session id, and every scope is a session that is open. The
base URL of a WebDriver client is that of the gateway.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import JSONResponse
from pydantic import Field

from broker.gateway.access import Role, needs
from broker.gateway.api_route import JSONRoute
from broker.gateway.documents import WRITING, problems
from broker.gateway.gateway import OurGateway
from broker.gateway.views import View
from broker.keys import SCOPES
from schemas.errors import InvalidName, InvalidState

router = APIRouter(tags=["automation"], route_class=JSONRoute)


class Done(View):
    """The answer of a command that succeeded."""

    value: None = None


class Failure(View):
    """Why a command failed."""

    error: str = Field(examples=["background fetch not found"])
    message: str
    stacktrace: str = ""


class Failed(View):
    """The answer of a command that failed (WebDriver § errors)."""

    value: Failure


@router.post(
    "/session/{scope}/backgroundfetch/{id:path}/click",
    dependencies=[needs(Role.PRODUCER)],
    response_model=Done,
    responses=problems(*WRITING)
    | {
        400: {"model": Failed, "description": "`invalid service worker state`"},
        404: {
            "model": Failed,
            "description": "`background fetch not found`, `invalid session id`",
        },
    },
    summary="Click, by WebDriver",
)
async def click_by_webdriver(
    scope: Annotated[str, Path(description="the session: a scope")],
    id: Annotated[str, Path(description="the id of a fetch, as its caller chose it")],
    gateway: OurGateway,
) -> Done | JSONResponse:
    """Click the newest background fetch with this id, ended or not."""
    try:
        async with gateway.manager(scope) as manager:
            if not await manager.connection.ask("SISMEMBER", SCOPES, scope):
                return _failed(
                    HTTPStatus.BAD_REQUEST,
                    "invalid service worker state",
                    f"nothing was ever registered in scope {scope!r}",
                )
            fetch = await manager.find(id) if id else None
            if fetch is not None:
                await fetch.click()
                return Done()
    except InvalidName as error:
        return _failed(HTTPStatus.NOT_FOUND, "invalid session id", str(error))
    except InvalidState:
        pass  # it was forgotten meanwhile
    return _failed(
        HTTPStatus.NOT_FOUND,
        "background fetch not found",
        f"no fetch in scope {scope!r} has the id {id!r}",
    )


def _failed(status: HTTPStatus, error: str, message: str) -> JSONResponse:
    told = Failed(value=Failure(error=error, message=message))
    return JSONResponse(told.model_dump(), status)
