#!lua flags=allow-oom
-- abort: end an active background fetch as aborted (R13, § abort).
-- KEYS[1..6] see _fetch.lua   KEYS[7] tokens HASH   then _places.lua's
-- ARGV[1..4] see _fetch.lua   ARGV[5] call token   ARGV[6] channel for lanes
-- then _places.lua's
-- Returns 1 if this call (or the one that it repeats, R23) ended it, else 0.
--@include _fetch
--@include _places
local answer = redis.call('HGET', KEYS[7], ARGV[5])
if answer then
  return tonumber(answer)
end
local state = redis.call('HMGET', fetch, 'result', 'id', 'seq', 'uid')
if not state[1] then
  return 0
end
local mine = redis.call('HGET', active, state[2]) == state[3] .. ':' .. state[4]
if state[1] ~= '' or not mine then
  redis.call('HSET', KEYS[7], ARGV[5], 0)
  return 0
end
settle('failure', 'aborted')
leave_line()
redis.call('HSET', KEYS[7], ARGV[5], 1)
redis.call('PUBLISH', ARGV[6], state[4])
return 1
