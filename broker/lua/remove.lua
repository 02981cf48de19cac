#!lua
-- remove: a subscriber leaves the scope's set, its group with it (R11, R21).
-- KEYS[1..3] see _set.lua   KEYS[4] consumers ZSET   KEYS[5] leaving SET
-- KEYS[6] presence ZSET
-- ARGV[1] subscriber   ARGV[2] its member in the leaving SET and the presence ZSET
-- Returns 'left', also on a repetition: what it was owed is then to be concluded, and
-- forget called; 'alive' if a process of it lives; 'unknown' if there is none.
--@include _filter
--@include _membership
--@include _set
local of = memberships(redis.call('HGET', subscribers, ARGV[1]))
if #of == 0 or of.removed then
  return redis.call('SISMEMBER', KEYS[5], ARGV[2]) == 1 and 'left' or 'unknown'
end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
if redis.call('ZCOUNT', KEYS[4], '(' .. now, '+inf') > 0 then
  return 'alive'
end
if is_member(of) then
  depart(of, redis.call('HINCRBY', scope, 'version', 1))
end
of.removed = true
write(ARGV[1], of)
redis.call('SADD', KEYS[5], ARGV[2])
redis.call('ZREM', KEYS[6], ARGV[2])
redis.pcall('XGROUP', 'DESTROY', stream, ARGV[1])
return 'left'
