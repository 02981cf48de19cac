#!lua flags=allow-oom
-- quarantine: this process cannot read the event; it becomes a dead letter (R21).
-- KEYS[1..6] see _fetch.lua   KEYS[7..8] see _delivery.lua   KEYS[9..10] see _letter.lua
-- KEYS[11] subscribers HASH
-- ARGV[1..4] see _fetch.lua   ARGV[5..7] see _delivery.lua   ARGV[8] reason
-- ARGV[9] nonce, under which this process may hold it
-- Returns 1 if the delivery is a dead letter, also on a repetition; 0 if a process that
-- can read it holds it, or if it is settled, not owed, or its fetch is gone.
--@include _fetch
--@include _delivery
--@include _membership
--@include _letter
local record = read_event(event)
local status, failures, attempt, nonce = read_delivery()
if status == 'held' and nonce ~= ARGV[9] then
  return 0
end
redis.call('XACK', stream, subscriber, entry)
redis.call('ZREM', due, delivery)
redis.call('ZREM', leases, delivery)
if status == 'dead' then
  return 1
end
local open = not status or status == 'waiting' or status == 'held'
local of = memberships(redis.call('HGET', KEYS[11], subscriber))
local id = redis.call('HGET', fetch, 'id') or ''
if not record or not open or not (status or is_owed(of, record, event, id)) then
  return 0
end
write_delivery('dead', failures, attempt, nonce, '-')
write_letter('unreadable', failures, ARGV[8])
return 1
