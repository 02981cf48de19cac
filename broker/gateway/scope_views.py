"""Scopes as the API shows them: which there are, and the rules for them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Self

from pydantic import Field

from broker.gateway.forms import Form
from broker.gateway.views import View
from broker.policies import ScopeRules
from broker.scopes import ScopeLook
from schemas.policies import Permission, ScopePolicy


class PermissionView(View):
    """The permission `background-fetch` of a scope."""

    state: Permission


class ScopeView(View):
    """How a scope stands."""

    scope: str = Field(examples=["podcasts"])
    active: int = Field(description="active background fetches")
    retained: int = Field(description="all that are listed, ended ones included")
    subscribers: int
    used: int = Field(description="bytes that its fetches store, or have reserved")
    removing: bool = Field(description="whether its removal is under way")

    @classmethod
    def of(cls, look: ScopeLook) -> Self:
        """Show a scope."""
        return cls.model_validate(asdict(look))


class ScopesView(View):
    """Every scope that was used, by name."""

    items: list[ScopeView]


class RulesForm(Form):
    """The rules for the next fetches of a scope: what is left out is not restricted."""

    permission: Permission = Field(
        Permission.GRANTED,
        description="denied: registering is refused; prompt: a fetch starts paused, "
        "`resume` permits it, and `abort` refuses it",
    )
    require_active_worker: bool = Field(
        False, description="refuse to fetch while nobody subscribes to the scope"
    )
    https_only: bool = False
    allow: list[str] = Field([], examples=[["https://cdn.example", "*.example.org"]])
    deny: list[str] = Field([])
    max_bytes: int = Field(0, description="what a fetch may store; 0: no limit")
    quota: int = Field(0, description="what all of them may store; 0: no limit")

    def policy(self) -> ScopePolicy:
        """Make the policy.

        Raises:
            InvalidOptions, InvalidURL: it cannot be made so.
        """
        return ScopePolicy.checked(**self.model_dump())


class RulesView(View):
    """The rules for the next fetches of a scope."""

    scope: str
    permission: Permission
    require_active_worker: bool
    https_only: bool
    allow: list[str]
    deny: list[str]
    max_bytes: int
    quota: int
    used: int = Field(description="bytes that its fetches store, or have reserved")

    @classmethod
    def of(cls, scope: str, rules: ScopeRules) -> Self:
        """Show the rules of a scope."""
        plain = rules.policy.model_dump(mode="json", by_alias=False)
        return cls.model_validate(plain | {"scope": scope, "used": rules.used})
