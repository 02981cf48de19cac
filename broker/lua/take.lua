#!lua flags=allow-oom
-- take: open a lane on a background fetch and hand it its first records (R1, R2).
-- KEYS[1..6] see _fetch.lua   KEYS[7..9] see _lanes.lua   KEYS[10..12] see _claim.lua
-- then _places.lua's
-- ARGV[1..4] see _fetch.lua   ARGV[5] nonce   ARGV[6] job id   ARGV[7] lease ms
-- ARGV[8] lanes at most   ARGV[9] records per lane   ARGV[10] records wanted
-- ARGV[11] which process takes it, for people
-- then _places.lua's
-- Returns {'ok', lane, registration, claims, now ms, bytes that the responses of the
-- fetch may have, -1 without a quota}, or {verdict, jobs to enqueue} with 'gone',
-- 'settled', 'paused', 'full' or 'idle'. The same nonce gets the same lane again.
--@include _fetch
--@include _lanes
--@include _claim
--@include _places
local nonce, job, lease = ARGV[5], ARGV[6], tonumber(ARGV[7])

local state = redis.call('HMGET', fetch, 'result', 'paused', 'priority', 'limited', 'downloaded')
local function granted()
  return state[4] == '1' and grant(tonumber(state[5]), 0) or -1
end
if not state[1] then
  return {'gone', pass_on(job)}
end
if state[1] ~= '' then
  return {'settled', pass_on(job)}
end
if state[2] == '1' then
  return {'paused', pass_on(job)}
end
local held = redis.call('HGETALL', lanes)
for i = 1, #held, 2 do
  if parse_lane(held[i + 1]) == nonce then
    local mine = redis.call('ZRANGEBYSCORE', claims, held[i], held[i])
    return {'ok', tonumber(held[i]), redis.call('HGETALL', fetch), describe(mine), now,
      granted()}
  end
end
if #held / 2 >= lanes_allowed(tonumber(ARGV[8]), tonumber(ARGV[9])) then
  return {'full', pass_on(job)}
end
if available() == 0 then
  plan()
  return {'idle', pass_on(job)}
end

local lane = redis.call('HINCRBY', fetch, 'fences', 1)
redis.call('HSET', lanes, lane, nonce .. ' ' .. now + lease .. ' ' .. job)
redis.call('ZADD', line_of(state[3]).places, now + lease, job)
redis.call('HDEL', fetch, 'patience')
note('lane-started', 'lane ' .. lane .. ' in ' .. ARGV[11])
local taken = claim(lane, tonumber(ARGV[10]))
plan()
return {'ok', lane, redis.call('HGETALL', fetch), describe(taken), now, granted()}
