-- Included after _fetch.lua by every script about one delivery (R10).
-- KEYS[7] leases ZSET   KEYS[8] due ZSET
-- ARGV[5] subscriber   ARGV[6] event   ARGV[7] delivery: <entry>/<uid>/<event>
local leases, due = KEYS[7], KEYS[8]
local subscriber, event, delivery = ARGV[5], ARGV[6], ARGV[7]
local field = event .. '|' .. subscriber
local entry = string.match(delivery, '^[^/]+')

-- What the event's end does not wait for: '' of a delivery that is owed, 'extra' of one
-- that is not, else the outcome that it has for ever, from before it was replayed (R11).
-- read_delivery sets it and write_delivery keeps it.
local standing = ''

-- status: held, waiting or dead; once settled acked, purged, expired or removed; nil
-- when it never began.
local function read_delivery()
  local value = redis.call('HGET', events, field)
  if not value then
    return nil, 0, 0, '', ''
  end
  local status, failures, attempt, nonce, consumer, rest =
    string.match(value, '^(%S+) (%d+) (%d+) (%S*) (%S*) ?(%S*)$')
  standing = rest
  return status, tonumber(failures), tonumber(attempt), nonce, consumer
end

local function write_delivery(status, failures, attempt, nonce, consumer)
  local values = {status, failures, attempt, nonce, consumer}
  values[6] = standing ~= '' and standing or nil
  redis.call('HSET', events, field, table.concat(values, ' '))
end

local function read_event(name)
  local value = redis.call('HGET', events, name)
  return value and parse_event(value) or nil
end

-- The delivery has its outcome, for ever: the caller has checked that it had none. The
-- last one owed is told to who waits for it; that of the completion event lets the
-- records go (guarantee 6).
local function settle_delivery(outcome, failures, attempt, nonce, consumer)
  local record = read_event(event)
  write_delivery(outcome, failures, attempt, nonce, consumer)
  redis.call('HDEL', events, field .. '|history')
  redis.call('ZREM', leases, delivery)
  redis.call('ZREM', due, delivery)
  redis.call('XACK', stream, subscriber, entry)
  if standing ~= '' then
    return
  end
  record.settled = record.settled + 1
  write_event(event, record)
  if record.settled < record.owed then
    return
  end
  local ending = redis.call('HMGET', fetch, 'completion', 'holdUntil', 'recordsAvailable', 'settledAt')
  if event ~= ending[1] then
    announce()
    return
  end
  if ending[3] == '1' and tonumber(ending[2]) <= now then
    release()
    return
  end
  if ending[3] == '1' then
    redis.call('ZADD', agenda, math.min(tonumber(ending[2]), ending[4] + retention), member)
  end
  announce()
end
