#!lua flags=allow-oom
-- ack: the handler's promises have settled; so has this delivery (§ waitUntil, R10).
-- KEYS[1..6] see _fetch.lua   KEYS[7..8] see _delivery.lua
-- ARGV[1..4] see _fetch.lua   ARGV[5..7] see _delivery.lua   ARGV[8] nonce
-- Returns 1 if the delivery was held under this nonce, also on a repetition; else 0.
--@include _fetch
--@include _delivery
local status, failures, attempt, holder, consumer = read_delivery()
if holder ~= ARGV[8] or (status ~= 'held' and status ~= 'acked') then
  return 0
end
if status == 'acked' then
  return 1
end
local record = read_event(event)
write_delivery('acked', failures, attempt, holder, consumer)
redis.call('ZREM', leases, delivery)
redis.call('XACK', stream, subscriber, entry)
record.settled = record.settled + 1
redis.call('HSET', events, event, table.concat({
  record.entry, record.version, record.owed, record.settled, record.predecessor,
}, ' '))
local ending = redis.call('HMGET', fetch, 'completion', 'holdUntil', 'recordsAvailable')
if event == ending[1] and ending[3] == '1' and record.settled >= math.max(1, record.owed) then
  if tonumber(ending[2]) <= now then
    release()
  else
    redis.call('ZADD', agenda, ending[2], member)
  end
end
return 1
