#!lua flags=allow-oom
-- forget_fetch: nobody finds an ended fetch any more; a reclaimer deletes what it has.
-- KEYS[1..6] see _fetch.lua   KEYS[7] latest HASH   KEYS[8] cleared ZSET
-- KEYS[9] subscribers HASH
-- ARGV[1..4] see _fetch.lua   ARGV[5] 1 though subscribers have not settled: then what
-- they are owed expires
-- Returns 'ok', also on a repetition; 'active' (BF-DISP-03), 'open' or 'gone'. Readers
-- that have a body open finish it (R17).
--@include _fetch
--@include _membership
--@include _unsettled
local state = redis.call('HMGET', fetch, 'result', 'removed', 'id', 'uid', 'purged')
if not state[1] then
  return 'gone'
elseif state[2] then
  return 'ok'
elseif state[1] == '' then
  return 'active'
elseif ARGV[5] ~= '1' and #unsettled(KEYS[9]) > 0 then
  return 'open'
end
redis.call('HSET', fetch, 'removed', 1, 'recordsAvailable', 0, 'releasedAt', now)
if redis.call('HGET', KEYS[7], state[3]) == state[4] then
  redis.call('HDEL', KEYS[7], state[3])
end
unlist_everywhere()
charge(0)
announce()
redis.call('ZREM', agenda, member)
redis.call('ZADD', KEYS[8], state[5] == '1' and now or now + release_grace, member)
return 'ok'
