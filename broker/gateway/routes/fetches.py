"""Background fetches over HTTP."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from broker.gateway.access import Role, needs
from broker.gateway.gateway import OurManager
from broker.gateway.problems import NotFound
from broker.plain import as_plain

router = APIRouter(prefix="/scopes/{scope}/fetches", tags=["fetches"])


@router.get("/{uid}", dependencies=[needs(Role.VIEWER)])
async def get_fetch(uid: str, manager: OurManager) -> dict[str, Any]:
    """Return one retained background fetch, ended or not."""
    registration = await manager.lookup(uid)
    if registration is None:
        raise NotFound(f"no background fetch {uid!r} in scope {manager.scope!r}")
    return as_plain(registration.state)
