#!lua
-- join: make a subscriber part of the scope's set, its group included (R11, R12).
-- KEYS[1] scope HASH   KEYS[2] subscribers HASH   KEYS[3] event STREAM   KEYS[4] scopes SET
-- KEYS[5] consumers ZSET   KEYS[6] leaving SET
-- ARGV[1] scope   ARGV[2] subscriber   ARGV[3] consumer   ARGV[4] lease ms
-- ARGV[5] 1 if this consumer had joined before   ARGV[6] member in the leaving SET
-- Returns the version in which the subscriber joined; 0 if it was removed since this
-- consumer joined; -1 if it was removed, and what it was owed is not concluded yet.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local known = redis.call('HGET', KEYS[2], ARGV[2])
local joined = known and string.match(known, '^(%d+) %-$')
if known and not joined and ARGV[5] == '1' then
  return 0
end
if redis.call('SISMEMBER', KEYS[6], ARGV[6]) == 1 then
  return -1
end
-- The first subscriber adopts what waited for one, and a lost group begins again at 0:
-- deliveries that have an outcome are skipped (R9, R12).
local start = '0'
if not joined then
  local count = tonumber(redis.call('HGET', KEYS[1], 'subscribers') or 0)
  start = count == 0 and '0' or '$'
  joined = redis.call('HINCRBY', KEYS[1], 'version', 1)
  redis.call('HSET', KEYS[2], ARGV[2], joined .. ' -')
  redis.call('HINCRBY', KEYS[1], 'subscribers', 1)
  redis.call('SADD', KEYS[4], ARGV[1])
end
redis.pcall('XGROUP', 'CREATE', KEYS[3], ARGV[2], start, 'MKSTREAM')
redis.call('ZADD', KEYS[5], now + ARGV[4], ARGV[3])
return tonumber(joined)
