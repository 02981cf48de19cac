"""Templates and how their pages are answered, errors included."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles
from starlette.types import Scope
from typing_extensions import override

from broker.gateway.access import Role, caller
from broker.gateway.gateway import gateway_of
from broker.gateway.pages import words
from broker.gateway.pages.trouble import Lookout, Trouble
from broker.gateway.problems import Problem, plain, problem_of
from broker.gateway.refusals import Refusal
from broker.plain import iso
from schemas.errors import BackgroundFetchError, Unreachable
from schemas.secrets import shown_url

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
"""What a page may load and do: our own files and addresses, nothing within the page."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    # Pages tell of the moment; going back shall not show an old one.
    "Cache-Control": "no-store",
}
PLACES = (
    ("/fetches", "Fetches"),
    ("/events", "Events"),
    ("/dead", "Dead letters"),
    ("/workers", "Workers"),
    ("/origins", "Origins"),
    ("/queues", "Queues"),
)
"""The pages that every page links to."""
_STATIC = Path(__file__).parent.parent / "static"
_FILTERS: tuple[Callable[..., Any], ...] = (
    words.size,
    words.of,
    words.duration,
    words.roughly,
    words.ago,
    words.moment,
    words.count,
    words.plural,
    words.linkable,
    shown_url,
    words.initial,
    words.hue,
    iso,
)


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("broker.gateway"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({each.__name__: each for each in _FILTERS})
    environment.globals["asset"] = _asset
    return environment


@cache
def _asset(name: str) -> str:
    """The address of a static file; another one whenever its bytes change."""
    digest = hashlib.sha256((_STATIC / name).read_bytes()).hexdigest()
    return f"/static/{name}?{digest[:8]}"


async def render(
    request: Request, template: str, *, status: int = HTTPStatus.OK, **values: object
) -> HTMLResponse:
    """Answer with a page; every value is escaped."""
    gateway, account = gateway_of(request), caller(request)
    settings = gateway.settings

    def may(role: str, scope: str) -> bool:
        """Whether to offer what needs a role; the route asks for it, too."""
        return not settings.read_only and account.may(Role(role), scope)

    page = _templates().get_template(template)
    lookout: Lookout = request.app.state.lookout
    troubles: Iterable[Trouble] = ()
    with suppress(Unreachable):
        troubles = await lookout.troubles(gateway)
    html = page.render(
        path=request.url.path,
        places=PLACES,
        environment=settings.environment,
        troubles=[each for each in troubles if account.may(Role.VIEWER, each.scope)],
        may=may,
        **values,
    )
    return HTMLResponse(html, status, HEADERS)


def go_to(address: str) -> RedirectResponse:
    """Answer a form: look at ``address`` now, by GET."""
    return RedirectResponse(address, HTTPStatus.SEE_OTHER)


class PageRoute(APIRoute):
    """A route whose errors are pages, too."""

    @override
    def get_route_handler(
        self,
    ) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler so that a person can read what went wrong."""
        handle = super().get_route_handler()

        async def readable(request: Request) -> Response:
            try:
                return await handle(request)
            except (
                BackgroundFetchError,
                HTTPException,
                Refusal,
                RequestValidationError,
            ) as error:
                problem = _problem(error)
            return await render(
                request, "error.html", status=problem.status, problem=problem
            )

        return readable


def _problem(error: Exception) -> Problem:
    if isinstance(error, BackgroundFetchError | Refusal):
        return problem_of(error)
    status, detail = HTTPStatus.UNPROCESSABLE_ENTITY, str(error)
    if isinstance(error, HTTPException):
        status, detail = HTTPStatus(error.status_code), error.detail
    elif isinstance(error, RequestValidationError):
        detail = "; ".join(f"{one['loc'][-1]}: {one['msg']}" for one in error.errors())
    return plain(status, detail)


class Assets(StaticFiles):
    """Style sheet, scripts and the like; their addresses name their content."""

    def __init__(self) -> None:
        super().__init__(directory=_STATIC)

    @override
    async def get_response(self, path: str, scope: Scope) -> Response:
        """Answer with a file that browsers may keep."""
        response = await super().get_response(path, scope)
        named = bool(scope.get("query_string"))
        response.headers["Cache-Control"] = (
            "public, max-age=31536000, immutable" if named else "no-cache"
        )
        return response
