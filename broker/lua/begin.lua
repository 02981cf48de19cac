#!lua flags=allow-oom
-- begin: take the right to handle one delivery (R10, R19).
-- KEYS[1..6] see _fetch.lua   KEYS[7..8] see _delivery.lua   KEYS[9] subscribers HASH
-- KEYS[10] subscriber's state HASH
-- ARGV[1..4] see _fetch.lua   ARGV[5..7] see _delivery.lua
-- ARGV[8] nonce   ARGV[9] consumer   ARGV[10] lease ms
-- Returns {'ok', attempt, failures, registration}; {'wait'} if the fetch's event before
-- it has not begun here, then it is due again soon; {'held'} while another holds it;
-- {'paused'} if nothing begins, then it waits for collect; {'done'} if it is settled, not
-- for this subscriber, or its fetch is gone, then it is acknowledged here.
--@include _fetch
--@include _delivery
--@include _membership
local nonce, consumer, lease = ARGV[8], ARGV[9], tonumber(ARGV[10])

local of = memberships(redis.call('HGET', KEYS[9], subscriber))
local id = redis.call('HGET', fetch, 'id') or ''

local function done()
  redis.call('XACK', stream, subscriber, entry)
  redis.call('ZREM', due, delivery)
  return {'done'}
end

-- Owned by nobody until collect: no process reads under that name (R20).
local function later(verdict, at)
  redis.call('ZADD', due, at, delivery)
  redis.call('XCLAIM', stream, subscriber, '-', 0, entry, 'JUSTID')
  return {verdict}
end

local record = read_event(event)
local status, failures, attempt, holder = read_delivery()
-- What a removed subscriber was owed becomes 'removed' (R21).
if not record or of.removed then
  return done()
end
if standing == '' and not is_owed(of, record, event, id) then
  if not is_wanted(of, record.version, entry, event, id) then
    return done()
  end
  standing = 'extra'
end
if status and status ~= 'held' and status ~= 'waiting' then
  return done()
end
if status == 'held' and holder ~= nonce then
  return {'held'}
end
if status ~= 'held' and redis.call('HEXISTS', KEYS[10], 'paused') == 1 then
  return later('paused', now)
end
if record.predecessor ~= '-' then
  local before = read_event(record.predecessor)
  local begun = redis.call('HEXISTS', events, record.predecessor .. '|' .. subscriber) == 1
  if before and not begun and is_owed(of, before, record.predecessor, id) then
    return later('wait', now + 200)
  end
end
if status ~= 'held' then
  attempt = attempt + 1
end
write_delivery('held', failures, attempt, nonce, consumer)
redis.call('ZADD', leases, now + lease, delivery)
redis.call('ZREM', due, delivery)
return {'ok', attempt, failures, redis.call('HGETALL', fetch)}
