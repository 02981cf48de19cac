#!lua flags=allow-oom
-- extend: one process keeps its own place and all deliveries that it works on (R20).
-- KEYS[1] consumers ZSET   KEYS[2] leases ZSET   KEYS[3..] events HASH of each delivery
-- ARGV[1] consumer   ARGV[2] lease ms   ARGV[3] subscriber
-- ARGV[4..] three values for each: event, nonce, delivery
-- Returns the deliveries that this process no longer holds.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local deadline, lost = now + tonumber(ARGV[2]), {}
redis.call('ZADD', KEYS[1], deadline, ARGV[1])
for i = 3, #KEYS do
  local at = 3 * i - 5
  local value = redis.call('HGET', KEYS[i], ARGV[at] .. '|' .. ARGV[3]) or ''
  local nonce = string.match(value, '^held %d+ %d+ (%S*) ')
  if nonce == ARGV[at + 1] then
    redis.call('ZADD', KEYS[2], deadline, ARGV[at + 2])
  else
    lost[#lost + 1] = ARGV[at + 2]
  end
end
return lost
