#!lua
-- sight: a sweep saw files that no record names; which of them did an earlier one see?
-- KEYS[1] orphans ZSET   ARGV[1] ms between the two sweeps at least
-- ARGV[2] ms after which an interrupted series of sweeps is forgotten   ARGV[3..] names
-- Returns the names that were first seen so long ago (R16). A repetition changes nothing.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local seen_twice = {}
for i = 3, #ARGV do
  local first = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if not first then
    redis.call('ZADD', KEYS[1], now, ARGV[i])
  elseif now - first >= tonumber(ARGV[1]) then
    seen_twice[#seen_twice + 1] = ARGV[i]
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return seen_twice
