#!lua flags=no-writes
-- look_at_origins: how all workers together stand with some origins, for people.
-- KEYS[1..] three for each origin: its hash, holders ZSET, grants HASH
-- Returns three values for each: its hash, the grants of live processes, now ms.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local rows = {}
for i = 1, #KEYS, 3 do
  local grants = {}
  for _, nonce in ipairs(redis.call('ZRANGEBYSCORE', KEYS[i + 1], now, '+inf')) do
    grants[#grants + 1] = redis.call('HGET', KEYS[i + 2], nonce) or nil
  end
  rows[#rows + 1] = redis.call('HGETALL', KEYS[i])
  rows[#rows + 1] = grants
  rows[#rows + 1] = now
end
return rows
