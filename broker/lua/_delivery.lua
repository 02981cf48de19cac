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
local function parse_delivery(value)
  standing = ''
  if not value then
    return nil, 0, 0, '', ''
  end
  local status, failures, attempt, nonce, consumer, rest =
    string.match(value, '^(%S+) (%d+) (%d+) (%S*) (%S*) ?(%S*)$')
  standing = rest
  return status, tonumber(failures), tonumber(attempt), nonce, consumer
end

local function read_delivery()
  return parse_delivery(redis.call('HGET', events, field))
end

local function delivery_line(status, failures, attempt, nonce, consumer)
  local values = {status, failures, attempt, nonce, consumer}
  values[6] = standing ~= '' and standing or nil
  return table.concat(values, ' ')
end

local function write_delivery(...)
  redis.call('HSET', events, field, delivery_line(...))
end

local function read_event(name)
  local value = redis.call('HGET', events, name)
  return value and parse_event(value) or nil
end

-- The event, or nil, and what read_delivery returns.
local awaited = false
local function read_both()
  local found = redis.call('HMGET', events, event, field, '||awaited')
  awaited = found[3]
  return found[1] and parse_event(found[1]) or nil, parse_delivery(found[2])
end

-- '-' is nobody: no process of that name reads, so the entry waits for collect (R20). A
-- group that is lost has nobody's entries either, and must not stop a script half-way.
local function disown(...)
  redis.pcall('XCLAIM', stream, subscriber, '-', 0, entry, 'JUSTID', ...)
end

-- Scripts about many deliveries do what concerns the subscriber's sets once for all.
local done_with, not_due, not_leased, outcomes = {}, {}, {}, {}
local function leave_sets()
  for outcome, number in pairs(outcomes) do
    redis.call('HINCRBY', scope, 'deliveries:' .. outcome, number)
  end
  if #not_leased > 0 then
    redis.call('ZREM', leases, unpack(not_leased))
  end
  if #not_due > 0 then
    redis.call('ZREM', due, unpack(not_due))
  end
  if #done_with > 0 then
    redis.call('XACK', stream, subscriber, unpack(done_with))
  end
end

-- The completion event's last outcome lets the records go (guarantee 6). That of a click,
-- which has a number, is told where somebody waits for it.
local function close_event()
  if string.find(event, '.', 1, true) then
    if awaited then
      announce()
    end
    return
  end
  local ending = redis.call('HMGET', fetch, 'completion', 'holdUntil', 'recordsAvailable', 'settledAt')
  if event == ending[1] and ending[3] == '1' then
    if tonumber(ending[2]) <= now then
      release()
      return
    end
    redis.call('ZADD', agenda, math.min(tonumber(ending[2]), ending[4] + retention), member)
  end
  announce()
end

-- The delivery has its outcome, for ever: the caller has checked with read_both that it
-- had none, and calls leave_sets() in the end.
local function settle_delivery(record, outcome, failures, attempt, nonce, consumer)
  local mine = delivery_line(outcome, failures, attempt, nonce, consumer)
  outcomes[outcome] = (outcomes[outcome] or 0) + 1
  done_with[#done_with + 1] = entry
  not_due[#not_due + 1] = delivery
  not_leased[#not_leased + 1] = delivery
  note(outcome, event, subscriber, attempt)
  if outcome ~= 'acked' or attempt > 1 then
    redis.call('HDEL', events, field .. '|history')
  end
  if standing ~= '' then
    redis.call('HSET', events, field, mine)
    return
  end
  record.settled = record.settled + 1
  redis.call('HSET', events, field, mine, event, event_line(record))
  if record.settled >= record.owed then
    close_event()
  end
end
