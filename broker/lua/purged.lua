#!lua flags=allow-oom
-- purged: the blobs of a released fetch are deleted; forget its records.
-- KEYS[1] fetch HASH   KEYS[2] agenda ZSET   KEYS[3] requests HASH
-- KEYS[4..] keys to delete
-- ARGV[1] member   ARGV[2] retention ms
-- The requests of a fetch that failed stay, so that it can be tried again.
-- Returns 1, or 0 if the fetch is gone or its records are still readable.
local settled = redis.call('HMGET', KEYS[1], 'settledAt', 'recordsAvailable', 'removed', 'result')
if not settled[1] or settled[2] ~= '0' then
  return 0
end
redis.call('HSET', KEYS[1], 'purged', 1)
if settled[4] == 'success' or settled[3] then
  redis.call('DEL', KEYS[3])
end
for i = 4, #KEYS do
  redis.call('DEL', KEYS[i])
end
redis.call('ZADD', KEYS[2], settled[3] and 0 or settled[1] + tonumber(ARGV[2]), ARGV[1])
return 1
