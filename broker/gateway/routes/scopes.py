"""Scopes over HTTP: which there are, the rules for their fetches, their removal."""

from __future__ import annotations

from fastapi import APIRouter

from broker.gateway.access import Role, needs
from broker.gateway.api_route import JSONRoute, OurCall
from broker.gateway.documents import WRITING, problems
from broker.gateway.gateway import OurGateway, OurManager
from broker.gateway.refusals import NotFound
from broker.gateway.scope_views import (
    PermissionView,
    RulesForm,
    RulesView,
    ScopesView,
    ScopeView,
)
from broker.policies import read_rules, write_policy
from broker.scopes import look_at_scopes
from schemas.errors import InvalidOptions, InvalidURL

router = APIRouter(prefix="/scopes", tags=["scopes"], route_class=JSONRoute)


@router.get("", dependencies=[needs(Role.VIEWER)], summary="All scopes")
async def list_scopes(gateway: OurGateway) -> ScopesView:
    """Return every scope that was used."""
    looks = await look_at_scopes(gateway.connection)
    return ScopesView(items=[ScopeView.of(look) for look in looks])


@router.get(
    "/{scope}/permission", dependencies=[needs(Role.VIEWER)], summary="The permission"
)
async def get_permission(manager: OurManager) -> PermissionView:
    """Return the state of the permission `background-fetch` in this scope."""
    return PermissionView(state=await manager.permission())


@router.get("/{scope}/rules", dependencies=[needs(Role.VIEWER)], summary="The rules")
async def get_rules(manager: OurManager) -> RulesView:
    """Return the rules for the next fetches of this scope."""
    rules = await read_rules(manager.connection, manager.scope)
    return RulesView.of(manager.scope, rules)


@router.put(
    "/{scope}/rules",
    dependencies=[needs(Role.OPERATOR)],
    responses=problems(*WRITING, InvalidOptions, InvalidURL),
    summary="Set the rules",
)
async def set_rules(manager: OurManager, form: RulesForm, call: OurCall) -> RulesView:
    """Set all rules of this scope; active fetches keep those that they began with."""
    await write_policy(manager.connection, manager.scope, form.policy())
    rules = await read_rules(manager.connection, manager.scope)
    return RulesView.of(manager.scope, rules)


@router.delete(
    "/{scope}",
    status_code=204,
    dependencies=[needs(Role.OPERATOR)],
    responses=problems(*WRITING, NotFound),
    summary="Remove a scope",
)
async def remove_scope(manager: OurManager, call: OurCall) -> None:
    """Remove a scope with all of its fetches, subscribers, dead letters and rules.

    What is active ends without an event. Bytes are deleted by workers.
    """
    if not await manager.unregister():
        raise NotFound(f"there is no scope {manager.scope!r}")
