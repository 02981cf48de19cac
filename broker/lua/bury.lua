#!lua flags=allow-oom
-- bury: a dead (or leaving) consumer's deliveries that never began are due at once; the
-- consumer is forgotten when it has none left (R9, R20).
-- KEYS[1] consumers ZSET   KEYS[2] due ZSET   KEYS[3] leases ZSET   KEYS[4] event STREAM
-- KEYS[5] subscriber's state HASH, which keeps when a process was there last (R21)
-- KEYS[6] arrived HASH
-- ARGV[1] subscriber   ARGV[2] consumer   ARGV[3] 1 if it says so itself
-- Returns how many deliveries became due.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local deadline = redis.call('ZSCORE', KEYS[1], ARGV[2])
if ARGV[3] ~= '1' and deadline and tonumber(deadline) > now then
  return 0
end
local moved = 0
for _, row in ipairs(redis.call('XPENDING', KEYS[4], ARGV[1], '-', '+', 100, ARGV[2])) do
  local found = redis.call('XRANGE', KEYS[4], row[1], row[1])
  local delivery = found[1] and row[1] .. '/' .. found[1][2][2]
  if not delivery then
    redis.call('XACK', KEYS[4], ARGV[1], row[1])
  elseif not redis.call('ZSCORE', KEYS[3], delivery) then
    redis.call('ZADD', KEYS[2], now, delivery)
    redis.call('XCLAIM', KEYS[4], ARGV[1], '-', 0, row[1], 'JUSTID')
    moved = moved + 1
  end
end
if #redis.call('XPENDING', KEYS[4], ARGV[1], '-', '+', 1, ARGV[2]) == 0 then
  redis.call('XGROUP', 'DELCONSUMER', KEYS[4], ARGV[1], ARGV[2])
  redis.call('ZREM', KEYS[1], ARGV[2])
  redis.call('HDEL', KEYS[6], ARGV[2])
  local seen = tonumber(redis.call('HGET', KEYS[5], 'seen') or 0)
  redis.call('HSET', KEYS[5], 'seen', string.format('%d', math.max(seen, deadline or 0)))
end
return moved
