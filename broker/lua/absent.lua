#!lua flags=allow-oom
-- absent: look for a subscriber; one that no process was of for a whole retention leaves
-- the set, and is forgotten when nothing is left that it was owed (R21).
-- KEYS[1..3] see _set.lua   KEYS[4] presence ZSET   KEYS[5] reclaim HASH
-- KEYS[6] consumers ZSET   KEYS[7] subscriber's state HASH   KEYS[8] copies ZSET
-- KEYS[9..] all keys of the subscriber
-- ARGV[1] subscriber   ARGV[2] its member in the presence ZSET   ARGV[3] retention ms
-- Returns {verdict, ms when it was seen last}: 'here', 'left' if this call took it out of
-- the set, 'away' if it had left, 'gone' if it is forgotten. While away it is as it was:
-- what it is owed expires with each fetch's retention, and is there if it comes back.
--@include _filter
--@include _membership
--@include _set
local subscriber, member, retention = ARGV[1], ARGV[2], tonumber(ARGV[3])
local presence = KEYS[4]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local of = memberships(redis.call('HGET', subscribers, subscriber))

local function gone()
  redis.call('ZREM', presence, member)
  return {'gone', 0}
end

local function again(verdict, at, seen)
  redis.call('ZADD', presence, at, member)
  return {verdict, seen}
end

if #of == 0 or of.removed then
  return gone()
end
local newest = redis.call('ZRANGE', KEYS[6], -1, -1, 'WITHSCORES')
local seen = math.max(tonumber(redis.call('HGET', KEYS[7], 'seen') or 0), tonumber(newest[2] or 0))
local grace = tonumber(redis.call('HGET', KEYS[5], 'grace_until') or 0)
if is_member(of) then
  -- A clock that leapt makes nobody absent: who lives shows it within the grace (R15).
  if seen + retention > now or grace > now then
    return again('here', math.max(seen + retention, grace), seen)
  end
  depart(of, redis.call('HINCRBY', scope, 'version', 1))
  write(subscriber, of)
  return again('left', now + retention, seen)
end
local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
local owed = oldest and tonumber(string.match(oldest[1], '^%d+')) <= of[1].at
if owed or redis.call('ZCOUNT', KEYS[8], '(' .. now, '+inf') > 0 then
  return again('away', now + retention, seen)
end
redis.pcall('XGROUP', 'DESTROY', stream, subscriber)
redis.call('HDEL', subscribers, subscriber)
for i = 9, #KEYS do
  redis.call('DEL', KEYS[i])
end
return gone()
