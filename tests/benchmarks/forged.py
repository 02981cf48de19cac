"""Ended fetches put into Redis at once, as the scripts leave them."""

from __future__ import annotations

from broker.connection import Connection
from broker.keys import FETCHES, FetchKeys, ScopeKeys, listed
from schemas.queries import ListedState

_FORGE = """
for at = ARGV[1], ARGV[2] - 1 do
  local uid = string.format('%032x', at)
  local member, seq, us = ARGV[3] .. '/' .. uid, at + 1, 1795386000000000 + at
  redis.call('HSET', KEYS[1] .. uid, 'uid', uid, 'id', 'forged-' .. at,
    'scope', ARGV[3], 'result', 'failure', 'failureReason', 'bad-status',
    'createdAt', 1795386000000, 'settledAt', 1795386001000, 'records', 1,
    'recordsAvailable', 0, 'releasedAt', 1795386001000, 'version', 3,
    'hosts', 'cdn.example', 'path', '/' .. at, 'priority', 'auto')
  redis.call('ZADD', KEYS[2], us, member)
  redis.call('ZADD', KEYS[3], us, member)
  redis.call('ZADD', KEYS[4], seq, uid)
  redis.call('ZADD', KEYS[5], seq, uid)
end
"""
_SLICE = 4_000


async def forge(connection: Connection, scope: str, count: int) -> None:
    """Let a scope have so many fetches that failed."""
    keys, state = ScopeKeys(scope), ListedState.FAILURE
    names = [
        FetchKeys(scope, "").fetch,
        FETCHES,
        listed(state),
        keys.fetches,
        keys.listed(state),
    ]
    for start in range(0, count, _SLICE):
        end = min(start + _SLICE, count)
        await connection.ask("EVAL", _FORGE, len(names), *names, start, end, scope)
