#!lua flags=allow-oom
-- forget: every delivery of a removed subscriber has an outcome; its keys go (R21).
-- KEYS[1] subscribers HASH   KEYS[2] leaving SET   KEYS[3..] keys to delete
-- ARGV[1] subscriber   ARGV[2] its member in the leaving SET
-- Returns 1, or 0 if it is back. That it was removed stays: who lived on must not rejoin.
if string.sub(redis.call('HGET', KEYS[1], ARGV[1]) or '', 1, 7) ~= 'removed' then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], 'removed')
redis.call('SREM', KEYS[2], ARGV[2])
for i = 3, #KEYS do
  redis.call('DEL', KEYS[i])
end
return 1
