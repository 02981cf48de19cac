-- Included by every script about one background fetch: names, time, messages, events.
-- KEYS[1] fetch HASH   KEYS[2] its events HASH   KEYS[3] agenda ZSET
-- KEYS[4] scope HASH   KEYS[5] active HASH       KEYS[6] event STREAM, and channel
-- ARGV[1] member   ARGV[2] progress channel   ARGV[3] retention ms   ARGV[4] release grace ms
--@include _filter
local fetch, events, agenda = KEYS[1], KEYS[2], KEYS[3]
local scope, active, stream = KEYS[4], KEYS[5], KEYS[6]
local member, progress = ARGV[1], ARGV[2]
local retention, release_grace = tonumber(ARGV[3]), tonumber(ARGV[4])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
--@include _lists
--@include _journal

local PUBLIC = {
  uid = 'text', id = 'text', scope = 'text', title = 'text', icons = 'text',
  result = 'text', failureReason = 'text', baseUrl = 'text',
  downloadTotal = 'number', downloaded = 'number', uploadTotal = 'number',
  uploaded = 'number', records = 'number', openRecords = 'number',
  createdAt = 'number', settledAt = 'number', version = 'number', seq = 'number',
  recordsAvailable = 'flag', pausable = 'flag', paused = 'flag', prompt = 'flag',
}

-- The registration as a message, the fields that are ours alone, and all as HGETALL has
-- them. Lua's numbers are exact up to 2^53; what is longer stays decimal text.
local function snapshot()
  local flat, state, own = redis.call('HGETALL', fetch), {}, {}
  for i = 1, #flat, 2 do
    local kind, value = PUBLIC[flat[i]], flat[i + 1]
    if kind == 'number' and #value < 16 then
      state[flat[i]] = tonumber(value)
    elseif kind == 'flag' then
      state[flat[i]] = value == '1'
    elseif kind then
      state[flat[i]] = value
    else
      own[flat[i]] = value
    end
  end
  return state, own, flat
end

-- Tell whoever listens what the registration looks like now (BF-PROG-01): as snapshot
-- returns it.
local function announce()
  redis.call('HINCRBY', fetch, 'version', 1)
  redis.call('HSET', fetch, 'announcedAt', now, 'dirty', 0)
  local state, own = snapshot()
  redis.call('PUBLISH', progress, cmsgpack.pack(state))
  return state, own
end

-- What is written of an event. One that was published to an empty set is open: owed to
-- the one that will be its first subscriber (R12).
local function parse_event(value)
  local entry, version, owed, settled, predecessor =
    string.match(value, '^(%S+) (%d+) (%S+) (%d+) (%S+)$')
  return {
    entry = entry, version = tonumber(version), open = owed == '-',
    owed = tonumber(owed) or 1, settled = tonumber(settled), predecessor = predecessor,
  }
end

local function event_line(record)
  return table.concat({
    record.entry, record.version, record.open and '-' or record.owed, record.settled,
    record.predecessor,
  }, ' ')
end

-- How many of the set take this event: those without a filter are counted, not visited.
local function number_owed(size, filters, event, id)
  for number, types, ids in string.gmatch(filters or '', '(%d+) (%S+) ([^\n]+)') do
    if not matches(types, ids, event, id) then
      size = size - tonumber(number)
    end
  end
  return size
end

-- Append an event to the scope's stream. It is owed to those in the subscriber set of
-- this moment, named by its version, whose filter it matches (R11, R21); it follows the
-- fetch's last event (R19). `state` and `own` are the fetch's, as snapshot returns them;
-- more fields of it, and their values, may follow. Returns what is written of the event;
-- nil, and nothing is told, if the scope is being removed (BF-EVT-13).
local function publish(type, event, state, own, ...)
  local last = own.lastEvent or ''
  local set = redis.call('HMGET', scope, 'version', 'subscribers', 'filters', 'removing')
  if set[4] then
    return nil
  end
  local size, version = tonumber(set[2] or 0), set[1] or 0
  local message = cmsgpack.pack({
    v = 1, type = type, event = event, timeStamp = now, predecessor = last,
    registration = state,
  })
  local entry = redis.call('XADD', stream, '*', 'delivery', state.uid .. '/' .. event,
    'message', message, 'id', state.id, 'version', version,
    'number', redis.call('HINCRBY', scope, 'published', 1), 'v', 1, 'state', state.version)
  local record = {
    entry = entry, version = version, open = size == 0,
    owed = number_owed(size, set[3], event, state.id), settled = 0,
    predecessor = last == '' and '-' or last,
  }
  redis.call('HSET', fetch, 'lastEvent', event, ...)
  redis.call('HSET', events, event, event_line(record))
  redis.call('PUBLISH', stream, message)
  return record
end

-- Let this fetch count for so many bytes of the scope's `used` (BF-LIFE-03).
local function charge(bytes)
  local before = tonumber(redis.call('HGET', fetch, 'charged') or 0)
  if bytes ~= before then
    redis.call('HSET', fetch, 'charged', string.format('%d', bytes))
    redis.call('HINCRBY', scope, 'used', string.format('%d', bytes - before))
  end
end

-- Make the records unreadable and let their bytes go after a grace (R16, BF-PERF-08).
local function release()
  redis.call('HSET', fetch, 'recordsAvailable', 0, 'releasedAt', now)
  unlist(':awaiting')
  charge(0)
  announce()
  redis.call('ZADD', agenda, now + release_grace, member)
end

-- Whether no subscriber is to settle the event: a hold is a member of the set like any,
-- and where it was the only one, nobody adopts the event (R12).
local function waits_for_nobody(record, held)
  if record.open then
    return held
  end
  return record.owed == 0
end

-- End the fetch and publish its one completion event (R13, R14). The id is free and
-- the registration final before anybody can see the event (BF-EVT-05).
local function settle(result, reason)
  local names = redis.call('HMGET', fetch, 'id', 'seq', 'uid', 'hold', 'uploadTotal', 'downloaded',
    'createdAt', 'held', 'paused')
  charge(tonumber(names[5]) + tonumber(names[6]))
  if redis.call('HGET', active, names[1]) == names[2] .. ':' .. names[3] then
    redis.call('HDEL', active, names[1])
  end
  local type = 'backgroundfetchsuccess'
  if reason == 'aborted' then
    type = 'backgroundfetchabort'
  elseif reason ~= '' then
    type = 'backgroundfetchfail'
  end
  redis.call('HINCRBY', scope, 'ended:' .. (reason == '' and result or reason), 1)
  redis.call('HINCRBY', scope, 'endedAfter', string.format('%d', now - names[7]))
  redis.call('HSET', fetch, 'result', result, 'failureReason', reason, 'settledAt', now,
    'completion', type, 'holdUntil', now + tonumber(names[4]), 'paused', 0, 'prompt', 0)
  local us = relist(names[2], names[9] == '1' and ':paused' or ':active',
    reason == 'aborted' and ':aborted' or ':' .. result)
  local record, hold = publish(type, type, announce()), tonumber(names[4])
  if not record or (hold == 0 and waits_for_nobody(record, names[8] == '1')) then
    release()
    return
  end
  enlist(':awaiting', names[2], us)
  redis.call('ZADD', agenda, now + (hold > 0 and math.min(hold, retention) or retention), member)
end
