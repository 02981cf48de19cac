#!lua flags=allow-oom
-- replay: a dead letter is delivered again, the same delivery without failures (R21).
-- KEYS[1..6] see _fetch.lua   KEYS[7..8] see _delivery.lua   KEYS[9..10] see _letter.lua
-- KEYS[11] tokens HASH
-- ARGV[1..4] see _fetch.lua   ARGV[5..7] see _delivery.lua   ARGV[8] call token
-- Returns 1, the same for the same token (R23); 0 if it is no dead letter (any more),
-- or its fetch is gone.
--@include _fetch
--@include _delivery
--@include _letter
local answer = redis.call('HGET', KEYS[11], ARGV[8])
if answer then
  return tonumber(answer)
end
local status, _, attempt = read_delivery()
if status ~= 'dead' then
  return 0
end
write_delivery('waiting', 0, attempt, '', '-')
drop_letter()
redis.call('ZADD', due, now, delivery)
redis.call('XCLAIM', stream, subscriber, '-', 0, entry, 'FORCE', 'JUSTID')
redis.call('HSET', KEYS[11], ARGV[8], 1)
return 1
