-- Included after _fetch.lua by every script about one delivery (R10).
-- KEYS[7] leases ZSET   KEYS[8] due ZSET
-- ARGV[5] subscriber   ARGV[6] event   ARGV[7] delivery: <entry>/<uid>/<event>
local leases, due = KEYS[7], KEYS[8]
local subscriber, event, delivery = ARGV[5], ARGV[6], ARGV[7]
local field = event .. '|' .. subscriber
local entry = string.match(delivery, '^[^/]+')

-- status: held, waiting or dead; once settled acked, purged, expired or removed; nil
-- when it never began.
local function read_delivery()
  local value = redis.call('HGET', events, field)
  if not value then
    return nil, 0, 0, '', ''
  end
  local status, failures, attempt, nonce, consumer =
    string.match(value, '^(%S+) (%d+) (%d+) (%S*) (%S*)$')
  return status, tonumber(failures), tonumber(attempt), nonce, consumer
end

local function write_delivery(status, failures, attempt, nonce, consumer)
  redis.call('HSET', events, field,
    table.concat({status, failures, attempt, nonce, consumer}, ' '))
end

local function read_event(name)
  local value = redis.call('HGET', events, name)
  if not value then
    return nil
  end
  local at, version, owed, settled, predecessor =
    string.match(value, '^(%S+) (%d+) (%d+) (%d+) (%S+)$')
  return {
    entry = at, version = tonumber(version), owed = tonumber(owed),
    settled = tonumber(settled), predecessor = predecessor,
  }
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
  record.settled = record.settled + 1
  redis.call('HSET', events, event, table.concat({
    record.entry, record.version, record.owed, record.settled, record.predecessor,
  }, ' '))
  if record.settled < math.max(1, record.owed) then
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
