#!lua
-- resume_fetch: a paused fetch goes on; one that waits for permission has it now.
-- KEYS[1..6] see _fetch.lua   KEYS[7..9] see _lanes.lua   KEYS[10..11] see _work.lua
-- KEYS[12] tokens HASH   then _places.lua's
-- ARGV[1..4] see _fetch.lua   ARGV[5..6] see _work.lua   ARGV[7] call token
-- then _places.lua's
-- Returns {verdict, jobs to enqueue, dead lanes' jobs}: 'ok', also on a repetition, with
-- the same jobs (R23); 'active' if it was not paused; 'settled' or 'gone'.
--@include _fetch
--@include _lanes
--@include _places
--@include _work
local state = redis.call('HMGET', fetch, 'result', 'paused', 'pausedAt')
if not state[1] then
  return {'gone', {}, {}}
elseif redis.call('HEXISTS', KEYS[12], ARGV[7]) == 1 then
  return {'ok', admitted(line_of()), {}}
elseif state[1] ~= '' then
  return {'settled', {}, {}}
elseif state[2] ~= '1' then
  return {'active', {}, {}}
end
-- Time in which it could not go on is no part of its age, which has a deadline.
redis.call('HINCRBY', fetch, 'pausedFor', math.max(0, now - state[3]))
redis.call('HSET', fetch, 'paused', 0, 'prompt', 0)
redis.call('HDEL', fetch, 'patience')
relist(redis.call('HGET', fetch, 'seq'), ':paused', ':active')
note('resumed')
redis.call('HSET', KEYS[12], ARGV[7], 1)
announce()
local looked = want_work()
return {'ok', looked[2], looked[3]}
