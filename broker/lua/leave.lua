#!lua flags=allow-oom
-- leave: a lane ends and gives back the records that it still holds.
-- KEYS[1..6] see _fetch.lua   KEYS[7..9] see _lanes.lua   then _places.lua's
-- ARGV[1..4] see _fetch.lua   ARGV[5] lane   ARGV[6] nonce   then _places.lua's
-- Returns jobs to enqueue.
--@include _fetch
--@include _lanes
--@include _places
local entry = redis.call('HGET', lanes, ARGV[5])
if not entry or parse_lane(entry) ~= ARGV[6] then
  return {}
end
local _, _, job = parse_lane(entry)
disband(ARGV[5])
if redis.call('HGET', fetch, 'result') == '' then
  plan()
end
return pass_on(job)
