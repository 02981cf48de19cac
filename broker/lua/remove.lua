#!lua flags=allow-oom
-- remove: a subscriber leaves the scope's set, its group with it (R11, R21).
-- KEYS[1] scope HASH   KEYS[2] subscribers HASH   KEYS[3] event STREAM
-- KEYS[4] consumers ZSET   KEYS[5] leaving SET
-- ARGV[1] subscriber   ARGV[2] its member in the leaving SET
-- Returns 'left', also on a repetition: what it was owed is then to be concluded, and
-- forget called; 'alive' if a process of it lives; 'unknown' if there is none.
local membership = redis.call('HGET', KEYS[2], ARGV[1]) or ''
local joined = string.match(membership, '^(%d+) %-$')
if not joined then
  return redis.call('SISMEMBER', KEYS[5], ARGV[2]) == 1 and 'left' or 'unknown'
end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
if redis.call('ZCOUNT', KEYS[4], '(' .. now, '+inf') > 0 then
  return 'alive'
end
local left = redis.call('HINCRBY', KEYS[1], 'version', 1)
redis.call('HINCRBY', KEYS[1], 'subscribers', -1)
redis.call('HSET', KEYS[2], ARGV[1], joined .. ' ' .. left)
redis.call('SADD', KEYS[5], ARGV[2])
redis.pcall('XGROUP', 'DESTROY', KEYS[3], ARGV[1])
return 'left'
