"""The policy of a scope, as operators set it; ``fetch()`` copies it into each fetch."""

from __future__ import annotations

from broker.connection import Connection
from broker.keys import ScopeKeys
from schemas.policies import ScopePolicy

POLICY = "policy"
"""Its field in the scope's hash, and in the registration of a fetch."""


async def read_policy(connection: Connection, scope: str) -> ScopePolicy:
    """Return the rules for the next fetches of the scope.

    Raises:
        Unreachable: Redis does not answer.
    """
    text: bytes | None = await connection.ask(
        "HGET", ScopeKeys(scope).scope_hash, POLICY
    )
    return ScopePolicy.read(text)


async def write_policy(connection: Connection, scope: str, policy: ScopePolicy) -> None:
    """Set the rules for the next fetches of the scope; active ones keep theirs.

    Raises:
        Unreachable: Redis does not answer. The rules may have been set.
    """
    await connection.ask("HSET", ScopeKeys(scope).scope_hash, POLICY, policy.text)
