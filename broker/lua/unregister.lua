#!lua flags=allow-oom
-- unregister: begin to remove a scope; from now on it takes nothing in and tells nothing.
-- KEYS[1] scope HASH   KEYS[2] scopes SET   KEYS[3] removing SET   KEYS[4] fetches ZSET
-- KEYS[5..] keys that go at once: the event STREAM, the lines for places
-- ARGV[1] scope
-- Returns how many fetches are to be cleared, also on a repetition; -1 if there is no such
-- scope. What is left is done by clear, dismiss and unregistered, whoever calls them (R25).
if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 0 and redis.call('EXISTS', KEYS[1]) == 0 then
  return -1
end
redis.call('HSET', KEYS[1], 'removing', 1)
redis.call('SADD', KEYS[3], ARGV[1])
redis.call('UNLINK', unpack(KEYS, 5))
return redis.call('ZCARD', KEYS[4])
