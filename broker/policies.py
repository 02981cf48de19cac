"""The policy of a scope, as operators set it; ``fetch()`` copies it into each fetch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from broker.connection import Connection
from broker.keys import SCOPES, ScopeKeys
from schemas.errors import InvalidState, QuotaExceeded
from schemas.policies import ScopePolicy

POLICY = "policy"
"""Its field in the scope's hash, and in the registration of a fetch."""


RULES = (POLICY, "subscribers", "used")
"""The fields of the scope's hash that make its rules, and what they are about."""


@dataclass(frozen=True, slots=True)
class ScopeRules:
    """The rules for the next fetch of a scope, as things stand."""

    policy: ScopePolicy
    active_worker: bool
    """Whether anybody subscribes to the scope, running now or not."""
    used: int
    """Bytes that fetches of the scope store, or have reserved, until their release."""

    @classmethod
    def of(cls, row: Sequence[bytes | None]) -> Self:
        """Read the values of ``RULES``.

        Raises:
            InvalidMessage: the policy is none.
        """
        policy, subscribers, used = row
        return cls(ScopePolicy.read(policy), int(subscribers or 0) > 0, int(used or 0))

    def check_upload(self, size: int, download_total: int = 0) -> None:
        """Refuse so many bytes of bodies, and of responses that are announced.

        Raises:
            QuotaExceeded: the rules for a fetch, or the quota of the scope, say so.
        """
        self.policy.check_upload(size)
        quota = self.policy.quota
        if quota and self.used + size + download_total > quota:
            raise QuotaExceeded(
                f"the fetch announces {size + download_total} bytes, and {self.used} "
                f"of the {quota} that the scope may store are taken; "
                "see `bgfetch scope show`"
            )


async def read_rules(connection: Connection, scope: str) -> ScopeRules:
    """Return the rules for the next fetches of the scope.

    Raises:
        Unreachable: Redis does not answer.
    """
    key = ScopeKeys(scope).scope_hash
    return ScopeRules.of(await connection.ask("HMGET", key, *RULES))


async def read_policy(connection: Connection, scope: str) -> ScopePolicy:
    """Return the policy for the next fetches of the scope.

    Raises:
        Unreachable: Redis does not answer.
    """
    return (await read_rules(connection, scope)).policy


async def write_policy(connection: Connection, scope: str, policy: ScopePolicy) -> None:
    """Set the rules for the next fetches of the scope; active ones keep theirs.

    Raises:
        InvalidState: the scope is being removed.
        Unreachable: Redis does not answer. The rules may have been set.
    """
    keys = [ScopeKeys(scope).scope_hash, SCOPES]
    if not await connection.run("set_policy", keys, [scope, policy.text, policy.quota]):
        raise InvalidState(f"scope {scope!r} is being removed: its rules go, too")
