"""Who may do what: each route names the role that it needs, for the scope it is about.

A guard before the routes finds out who sends a request (``broker.gateway.login``).
"""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant

from broker.accounts import Account, Role
from broker.gateway.rates import Rates
from broker.gateway.refusals import Refusal

__all__ = ["Forbidden", "OurCaller", "Role", "TooMany", "caller", "needs", "role_of"]

READING = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""


class Forbidden(Refusal):
    """The caller is known, and may not do this."""

    status = HTTPStatus.FORBIDDEN


class TooMany(Refusal):
    """The caller has to wait before it writes again."""

    status = HTTPStatus.TOO_MANY_REQUESTS

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"too many writes: wait {seconds:.1f} s",
            {"Retry-After": str(math.ceil(seconds))},
        )


def caller(request: Request) -> Account:
    """Who sends a request."""
    account = request.state.account
    assert isinstance(account, Account)
    return account


OurCaller = Annotated[Account, Depends(caller)]


class _Needs:
    def __init__(self, role: Role) -> None:
        self.role = role

    def __call__(self, request: Request, who: OurCaller) -> None:
        request.state.role = self.role
        scope = _scope_of(request)
        if not who.may(self.role, scope):
            where = f"scope {scope!r}" if scope else "every scope: name one of yours"
            raise Forbidden(f"{who.name!r} is no {self.role} of {where}")
        if request.method in READING or self.role is Role.SUBSCRIBER:
            return
        rates: Rates = request.app.state.write_rates
        if seconds := rates.wait(who.name):
            raise TooMany(seconds)


def needs(role: Role) -> Any:
    """A dependency that lets only callers with ``role`` pass.

    The scope that is meant is the path's, else that of the query where the route reads
    one; every scope is meant by all other requests.
    """
    return Depends(_Needs(role))


def _scope_of(request: Request) -> str | None:
    if "scope" in request.path_params:
        return str(request.path_params["scope"])
    # A word that the route does not read grants nothing.
    reads = _reads_scope(request.scope["route"].dependant)
    return request.query_params.get("scope") or None if reads else None


def _reads_scope(dependant: Dependant) -> bool:
    return any(field.alias == "scope" for field in dependant.query_params) or any(
        _reads_scope(each) for each in dependant.dependencies
    )


def role_of(dependency: object) -> Role | None:
    """The role that a route's dependency asks for, if it is one of ``needs``."""
    return dependency.role if isinstance(dependency, _Needs) else None
