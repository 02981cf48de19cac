#!lua flags=allow-oom
-- unregistered: a scope has neither fetches nor subscribers left; forget it.
-- KEYS[1] scope HASH   KEYS[2] scopes SET   KEYS[3] removing SET   KEYS[4] removed ZSET
-- KEYS[5] fetches ZSET   KEYS[6] subscribers HASH   KEYS[7..] the scope's other keys
-- ARGV[1] scope   ARGV[2] retention ms
-- Returns 1, also if the scope is not being removed (any more); 0 if something is left.
if redis.call('HEXISTS', KEYS[1], 'removing') == 0 then
  redis.call('SREM', KEYS[3], ARGV[1])
  return 1
end
if redis.call('EXISTS', KEYS[5], KEYS[6]) > 0 then
  return 0
end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('UNLINK', KEYS[1], unpack(KEYS, 7))
redis.call('SREM', KEYS[2], ARGV[1])
redis.call('SREM', KEYS[3], ARGV[1])
-- Processes that lived through this must not bring the scope back (R21).
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now - tonumber(ARGV[2]))
redis.call('ZADD', KEYS[4], now, ARGV[1])
return 1
