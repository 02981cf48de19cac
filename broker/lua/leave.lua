#!lua flags=allow-oom
-- leave: a lane ends and gives back the records that it still holds.
-- KEYS[1..6] see _fetch.lua   KEYS[7..9] see _lanes.lua
-- ARGV[1..4] see _fetch.lua   ARGV[5] lane   ARGV[6] nonce
-- Returns 1 if the lane was there, else 0.
--@include _fetch
--@include _lanes
local entry = redis.call('HGET', lanes, ARGV[5])
if not entry or parse_lane(entry) ~= ARGV[6] then
  return 0
end
disband(ARGV[5])
if redis.call('HGET', fetch, 'result') == '' then
  plan()
end
return 1
