#!lua flags=allow-oom
-- unhold: the producer no longer holds the records (guarantee 6).
-- KEYS[1] fetch HASH   KEYS[2] agenda ZSET   ARGV[1] member
-- Returns 1, or 0 if there is no such fetch.
local state = redis.call('HMGET', KEYS[1], 'result', 'recordsAvailable')
if not state[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'hold', 0)
if state[1] ~= '' and state[2] == '1' then
  redis.call('HSET', KEYS[1], 'holdUntil', 0)
  redis.call('ZADD', KEYS[2], 0, ARGV[1])
end
return 1
