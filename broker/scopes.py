"""The scopes of a service: which there are, and how much is in each."""

from __future__ import annotations

from dataclasses import dataclass

from broker.connection import Connection
from broker.keys import SCOPES, ScopeKeys
from schemas.names import is_reserved


@dataclass(frozen=True, slots=True)
class ScopeLook:
    """How a scope stands."""

    scope: str
    active: int
    """Active background fetches."""
    retained: int
    """All that are listed, ended ones included."""
    subscribers: int
    used: int
    """Bytes that its fetches store, or have reserved."""
    removing: bool
    """Whether its removal is under way: it takes no more fetches."""


async def scope_names(connection: Connection) -> list[str]:
    """Return the name of every scope that was used, in order, but those of ours.

    Raises:
        Unreachable: Redis does not answer.
    """
    found: set[bytes] = await connection.ask("SMEMBERS", SCOPES)
    return [name for name in sorted(map(bytes.decode, found)) if not is_reserved(name)]


async def look_at_scopes(connection: Connection) -> list[ScopeLook]:
    """Return every scope that was used, by name; those of ours are left out.

    Raises:
        Unreachable: Redis does not answer.
    """
    names = await scope_names(connection)
    commands: list[tuple[str, ...]] = []
    for keys in map(ScopeKeys, names):
        commands += [
            ("HLEN", keys.active),
            ("ZCARD", keys.fetches),
            ("HMGET", keys.scope_hash, "subscribers", "used", "removing"),
        ]
    replies = await connection.ask_all(commands) if commands else []
    return [
        ScopeLook(
            scope=name,
            active=active,
            retained=retained,
            subscribers=int(row[0] or 0),
            used=int(row[1] or 0),
            removing=row[2] is not None,
        )
        for name, active, retained, row in zip(
            names, replies[::3], replies[1::3], replies[2::3], strict=True
        )
    ]
