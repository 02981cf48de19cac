"""Time in Redis: it passes when a test says so, for everything that waits for it."""

from __future__ import annotations

from broker.connection import Connection

HOUR = 3_600_000

# Each deadline and each moment that is written down moves into the past. What a pass
# of the reclaimers says stays: they were there all the time (R15).
AGE = """
local by = tonumber(ARGV[1])
local MOMENTS = {'createdAt', 'settledAt', 'holdUntil', 'releasedAt', 'pausedAt'}
local ZSETS = {agenda = 1, pool = 1, readers = 1, due = 1, leases = 1, consumers = 1,
  copies = 1, high = 1, auto = 1, low = 1}
for _, key in ipairs(redis.call('KEYS', 'bgfetch:*')) do
  local last = string.match(key, '[^:]+$')
  if last == 'lanes' then
    local all = redis.call('HGETALL', key)
    for i = 1, #all, 2 do
      local nonce, deadline, job = string.match(all[i + 1], '^(%S+) (%d+) (%S*)$')
      local moved = string.format('%s %d %s', nonce, deadline - by, job)
      redis.call('HSET', key, all[i], moved)
    end
  elseif string.find(key, ':fetch:%x+$') then
    for _, field in ipairs(MOMENTS) do
      local at = tonumber(redis.call('HGET', key, field) or 0)
      if at > 0 then
        redis.call('HSET', key, field, string.format('%d', math.max(1, at - by)))
      end
    end
  elseif ZSETS[last] and not string.find(key, ':waiting:') then
    for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do
      redis.call('ZINCRBY', key, -by, member)
    end
  end
end
"""


async def pass_time(connection: Connection, hours: int) -> None:
    """Let so many hours pass in Redis."""
    await connection.ask("EVAL", AGE, 0, hours * HOUR)
