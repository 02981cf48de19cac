#!lua flags=allow-oom
-- defer: this process is too old for the event; it waits, uncounted, for another (R20).
-- KEYS[1..6] see _fetch.lua   KEYS[7..8] see _delivery.lua
-- ARGV[1..4] see _fetch.lua   ARGV[5..7] see _delivery.lua   ARGV[8] delay ms
-- Returns 1 if the delivery waits; 0 if a process that can read it holds it, or if it is
-- settled, a dead letter, or of a fetch that is gone.
--@include _fetch
--@include _delivery
local status = read_delivery()
if status == 'held' then
  return 0
end
if not read_event(event) or (status and status ~= 'waiting') then
  redis.call('XACK', stream, subscriber, entry)
  redis.call('ZREM', due, delivery)
  return 0
end
redis.call('ZADD', due, now + tonumber(ARGV[8]), delivery)
disown()
return 1
