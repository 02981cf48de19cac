#!lua flags=allow-oom
-- collect: take deliveries whose time has come; they become this consumer's.
-- KEYS[1] due ZSET   KEYS[2] event STREAM   KEYS[3] subscriber's state HASH
-- ARGV[1] subscriber   ARGV[2] consumer   ARGV[3] how many at most
-- Returns {1 if the subscriber is paused, and then takes nothing, else 0}, and then entry
-- and message of each. Taken but never begun, they return with bury.
if redis.call('HEXISTS', KEYS[3], 'paused') == 1 then
  return {1}
end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local rows = {0}
for _, delivery in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[3])) do
  redis.call('ZREM', KEYS[1], delivery)
  local entry = string.match(delivery, '^[^/]+')
  local found = redis.call('XRANGE', KEYS[2], entry, entry)
  if found[1] then
    -- Without its group it can be handled, too: this must not stop half-way.
    redis.pcall('XCLAIM', KEYS[2], ARGV[1], ARGV[2], 0, entry, 'FORCE', 'JUSTID')
    rows[#rows + 1] = entry
    rows[#rows + 1] = found[1][2][4]
  else
    redis.call('XACK', KEYS[2], ARGV[1], entry)
  end
end
return rows
