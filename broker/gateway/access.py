"""Who may do what: each route names the role that it needs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from fastapi import Depends


class Role(StrEnum):
    """What somebody may do in a scope; the later ones do not imply the earlier."""

    VIEWER = "viewer"
    """Look at fetches, records, events and progress."""
    PRODUCER = "producer"
    """Register, abort, pause, resume and click background fetches."""
    SUBSCRIBER = "subscriber"
    """Take events and acknowledge them."""
    OPERATOR = "operator"
    """Everything: dead letters, subscribers, rules of scopes, bulk actions."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request."""

    name: str


ANYBODY = Caller("anybody")
"""Without accounts everybody who reaches the gateway may do everything, so `bgfetch
serve` listens on this machine alone."""


def caller() -> Caller:
    """Who sends this request."""
    return ANYBODY


OurCaller = Annotated[Caller, Depends(caller)]


def needs(role: Role) -> Any:
    """A dependency that lets only callers with ``role`` pass."""

    def check(who: OurCaller) -> None: ...

    return Depends(check)
