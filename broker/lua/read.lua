#!lua flags=allow-oom
-- read: one consistent look at a record, keeping a body reader's lease (R8, R17).
-- KEYS[1] fetch HASH   KEYS[2] states HASH   KEYS[3] records HASH   KEYS[4] readers ZSET
-- ARGV[1] index   ARGV[2] reader, '' for one that reads no body   ARGV[3] lease ms
-- Returns {registration's result, state, record state}, the last two '' if not there
-- yet; {} if the records are released, or were never there.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local fetch = redis.call('HMGET', KEYS[1], 'result', 'recordsAvailable', 'purged')
local reading = false
if ARGV[2] ~= '' then
  local deadline = redis.call('ZSCORE', KEYS[4], ARGV[2])
  reading = deadline and tonumber(deadline) > now
end
if not fetch[1] or fetch[3] == '1' or (fetch[2] ~= '1' and not reading) then
  return {}
end
if ARGV[2] ~= '' then
  redis.call('ZADD', KEYS[4], now + tonumber(ARGV[3]), ARGV[2])
end
return {
  fetch[1],
  redis.call('HGET', KEYS[2], ARGV[1]) or '',
  redis.call('HGET', KEYS[3], ARGV[1]) or '',
}
