#!lua
-- await: somebody is about to wait until an event of this fetch is settled: from now on
-- that is announced, of clicks too.
-- KEYS[1] events HASH
-- Returns 1, or 0 if there is no such fetch, or it has no event.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
redis.call('HSET', KEYS[1], '||awaited', 1)
return 1
