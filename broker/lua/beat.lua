#!lua flags=allow-oom
-- beat: a process lives, or leaves; those that died are forgotten.
-- KEYS[1] processes ZSET   ARGV[1] member   ARGV[2] lease ms, 0 to leave
-- Returns nothing.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if ARGV[2] == '0' then
  redis.call('ZREM', KEYS[1], ARGV[1])
else
  redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1])
end
