#!lua flags=allow-oom
-- begin: take the right to handle one delivery (R10, R19).
-- KEYS[1..6] see _fetch.lua   KEYS[7..8] see _delivery.lua   KEYS[9] subscribers HASH
-- ARGV[1..4] see _fetch.lua   ARGV[5..7] see _delivery.lua
-- ARGV[8] nonce   ARGV[9] consumer   ARGV[10] lease ms
-- Returns {'ok', attempt, failures, registration}; {'wait'} if the fetch's event before
-- it has not begun here: then it is due again soon; {'held'} while another holds it; {'done'} if it is settled,
-- not owed to this subscriber, or its fetch is gone: then it is acknowledged here.
--@include _fetch
--@include _delivery
--@include _owed
local nonce, consumer, lease = ARGV[8], ARGV[9], tonumber(ARGV[10])

local membership = redis.call('HGET', KEYS[9], subscriber) or ''

local function done()
  redis.call('XACK', stream, subscriber, entry)
  redis.call('ZREM', due, delivery)
  return {'done'}
end

local record = read_event(event)
-- Who has left begins nothing: what it was owed becomes 'removed' (R21).
if not record or not string.match(membership, ' %-$') or not is_owed(membership, record) then
  return done()
end
local status, failures, attempt, holder = read_delivery()
if status and status ~= 'held' and status ~= 'waiting' then
  return done()
end
if status == 'held' and holder ~= nonce then
  return {'held'}
end
if record.predecessor ~= '-' then
  local before = read_event(record.predecessor)
  local begun = redis.call('HEXISTS', events, record.predecessor .. '|' .. subscriber) == 1
  if before and is_owed(membership, before) and not begun then
    redis.call('ZADD', due, now + 200, delivery)
    redis.call('XCLAIM', stream, subscriber, '-', 0, entry, 'JUSTID')
    return {'wait'}
  end
end
if status ~= 'held' then
  attempt = attempt + 1
end
write_delivery('held', failures, attempt, nonce, consumer)
redis.call('ZADD', leases, now + lease, delivery)
redis.call('ZREM', due, delivery)
return {'ok', attempt, failures, redis.call('HGETALL', fetch)}
