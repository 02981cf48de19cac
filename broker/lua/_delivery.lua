-- Included after _fetch.lua by every script about one delivery (R10).
-- KEYS[7] leases ZSET   KEYS[8] due ZSET
-- ARGV[5] subscriber   ARGV[6] event   ARGV[7] delivery: <entry>/<uid>/<event>
local leases, due = KEYS[7], KEYS[8]
local subscriber, event, delivery = ARGV[5], ARGV[6], ARGV[7]
local field = event .. '|' .. subscriber
local entry = string.match(delivery, '^[^/]+')

-- status: held, waiting, acked or dead; nil when it never began.
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
