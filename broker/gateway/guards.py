"""What every request passes before a route sees it, and every answer after it.

In this order: the name that the request calls us by (DNS rebinding), where a write
comes from (cross-site request forgery), who sends it, whether anybody may write. Plain
ASGI, so that streams of events pass through unchanged.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broker.gateway.access import READING
from broker.gateway.audit import Audit
from broker.gateway.login import Login, Tries, Unknown
from broker.gateway.problems import Problem, answer, plain

OPEN_PATHS = ("/healthz", "/readyz", "/problems", "/static/")
"""What everybody may read: it tells nothing of anybody."""
CHALLENGES = ('Basic realm="bgfetch", charset="UTF-8"', 'Bearer realm="bgfetch"')
"""A field each: browsers understand only the first challenge of one."""
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
"""Of every answer, unless its route says otherwise."""


class Guards:
    """The middleware around all routes."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Iterable[str],
        login: Login,
        audit: Audit,
        read_only: bool,
    ) -> None:
        """``hosts`` are the names that are answered to, beside addresses."""
        self._app = app
        self._hosts = frozenset({"localhost", *map(str.lower, hosts)})
        self._login = login
        self._audit = audit
        self._read_only = read_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or let the app do it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = HTTPConnection(scope)
        guarded = _with_headers(send)
        refused = self._misplaced(request) or await self._unknown(request)
        if refused is not None:
            problem, headers = refused
            response = answer(problem, headers)
            if problem.status == HTTPStatus.UNAUTHORIZED:
                for challenge in CHALLENGES:
                    response.headers.append("WWW-Authenticate", challenge)
            await response(scope, receive, guarded)
            return
        async with self._audit.listening(request, guarded) as sending:
            await self._app(scope, receive, sending)

    def _misplaced(
        self, request: HTTPConnection
    ) -> tuple[Problem, dict[str, str]] | None:
        host = request.headers.get("host", "")
        if not self._answers_to(host):
            return _refusal(
                HTTPStatus.MISDIRECTED_REQUEST,
                f"{host!r} is no name of this gateway: `bgfetch serve --allow-host` "
                "or BGFETCH_HOSTS make it one",
            )
        if request.scope["method"] in READING:
            return None
        if self._read_only:
            return _refusal(HTTPStatus.FORBIDDEN, "this gateway is read-only")
        if _is_cross_site(request, host):
            return _refusal(
                HTTPStatus.FORBIDDEN,
                "a page of another site may not send this (Sec-Fetch-Site, Origin)",
            )
        return None

    def _answers_to(self, host: str) -> bool:
        """Whether ``host`` is ours: an address, which no foreign name can stand for."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name.rstrip(".") in self._hosts
        return True

    async def _unknown(
        self, request: HTTPConnection
    ) -> tuple[Problem, dict[str, str]] | None:
        if request.scope["path"].startswith(OPEN_PATHS):
            return None
        try:
            request.state.account = await self._login.account(request)
        except Unknown as error:
            return _refusal(HTTPStatus.UNAUTHORIZED, str(error))
        except Tries as error:
            told = plain(HTTPStatus.TOO_MANY_REQUESTS, str(error))
            return told, {"Retry-After": f"{error.seconds:.0f}"}
        return None


def _refusal(status: HTTPStatus, detail: str) -> tuple[Problem, dict[str, str]]:
    return plain(status, detail), {}


def _is_cross_site(request: HTTPConnection, host: str) -> bool:
    """Whether a browser says that a page of another origin sends this.

    Programs send neither header; every browser of today sends the first, and older
    ones the second.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != host


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sending
