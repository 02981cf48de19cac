"""The policy of a scope, as operators set it; ``fetch()`` copies it into each fetch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from broker.connection import Connection
from broker.keys import ScopeKeys
from schemas.policies import ScopePolicy

POLICY = "policy"
"""Its field in the scope's hash, and in the registration of a fetch."""


RULES = (POLICY, "subscribers")
"""The fields of the scope's hash that make its rules, and what they are about."""


@dataclass(frozen=True, slots=True)
class ScopeRules:
    """The rules for the next fetch of a scope, as things stand."""

    policy: ScopePolicy
    active_worker: bool
    """Whether anybody subscribes to the scope, running now or not."""

    @classmethod
    def of(cls, row: Sequence[bytes | None]) -> Self:
        """Read the values of ``RULES``.

        Raises:
            InvalidMessage: the policy is none.
        """
        policy, subscribers = row
        return cls(ScopePolicy.read(policy), int(subscribers or 0) > 0)


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
        Unreachable: Redis does not answer. The rules may have been set.
    """
    await connection.ask("HSET", ScopeKeys(scope).scope_hash, POLICY, policy.text)
