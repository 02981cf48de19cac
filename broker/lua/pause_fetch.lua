#!lua flags=allow-oom
-- pause_fetch: no request of an active fetch is sent until it is resumed (BF-REC-22).
-- Its lanes hear so and leave; until then they keep their leases, and get no new ones.
-- KEYS[1..6] see _fetch.lua   KEYS[7..9] see _lanes.lua   KEYS[10] tokens HASH
-- then _places.lua's
-- ARGV[1..4] see _fetch.lua   ARGV[5] call token   ARGV[6] channel for lanes
-- then _places.lua's
-- Returns {verdict, jobs to enqueue}: 'ok', also on a repetition (R23); 'paused' if it
-- was; 'never' if one of its requests is not exactly GET; 'settled' or 'gone'.
--@include _fetch
--@include _lanes
--@include _places
local state = redis.call('HMGET', fetch, 'result', 'pausable', 'paused', 'uid')
if redis.call('HEXISTS', KEYS[10], ARGV[5]) == 1 then
  return {'ok', {}}
elseif not state[1] then
  return {'gone', {}}
elseif state[1] ~= '' then
  return {'settled', {}}
elseif state[2] ~= '1' then
  return {'never', {}}
elseif state[3] == '1' then
  return {'paused', {}}
end
redis.call('HSET', fetch, 'paused', 1, 'pausedAt', now)
relist(redis.call('HGET', fetch, 'seq'), ':active', ':paused')
note('paused')
redis.call('HSET', KEYS[10], ARGV[5], 1)
announce()

-- Jobs that wait in a queue give up their places now, those of lanes when these leave.
local line = line_of()
leave_line()
local at_work = {}
for _, entry in ipairs(redis.call('HVALS', lanes)) do
  local _, _, job = parse_lane(entry)
  at_work[job] = true
end
for _, job in ipairs(admitted(line)) do
  if not at_work[job] then
    redis.call('ZREM', line.places, job)
  end
end
if next(at_work) then
  plan()
else
  redis.call('ZREM', agenda, member)
end
redis.call('PUBLISH', ARGV[6], state[4])
return {'ok', admit(line)}
