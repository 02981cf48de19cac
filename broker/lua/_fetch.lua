-- Included by every script about one background fetch: names, time, messages, events.
-- KEYS[1] fetch HASH   KEYS[2] its events HASH   KEYS[3] agenda ZSET
-- KEYS[4] scope HASH   KEYS[5] active HASH       KEYS[6] event STREAM, and channel
-- ARGV[1] member   ARGV[2] progress channel   ARGV[3] retention ms   ARGV[4] release grace ms
local fetch, events, agenda = KEYS[1], KEYS[2], KEYS[3]
local scope, active, stream = KEYS[4], KEYS[5], KEYS[6]
local member, progress = ARGV[1], ARGV[2]
local retention, release_grace = tonumber(ARGV[3]), tonumber(ARGV[4])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local PUBLIC = {
  uid = 'text', id = 'text', scope = 'text', title = 'text', icons = 'text',
  result = 'text', failureReason = 'text', baseUrl = 'text',
  downloadTotal = 'number', downloaded = 'number', uploadTotal = 'number',
  uploaded = 'number', records = 'number', openRecords = 'number',
  createdAt = 'number', settledAt = 'number', version = 'number',
  recordsAvailable = 'flag',
}

-- The registration as a message. Lua's numbers are exact up to 2^53; what is longer
-- stays decimal text.
local function snapshot()
  local flat, state = redis.call('HGETALL', fetch), {}
  for i = 1, #flat, 2 do
    local kind, value = PUBLIC[flat[i]], flat[i + 1]
    if kind == 'number' and #value < 16 then
      state[flat[i]] = tonumber(value)
    elseif kind == 'flag' then
      state[flat[i]] = value == '1'
    elseif kind then
      state[flat[i]] = value
    end
  end
  return state
end

-- Tell whoever listens what the registration looks like now (BF-PROG-01).
local function announce()
  redis.call('HINCRBY', fetch, 'version', 1)
  redis.call('HSET', fetch, 'announcedAt', now, 'dirty', 0)
  redis.call('PUBLISH', progress, cmsgpack.pack(snapshot()))
end

-- Append an event to the scope's stream. It is owed to the subscriber set of this
-- moment, named by its version and size (R11); it follows the fetch's last event (R19).
local function publish(type, event)
  local set = redis.call('HMGET', scope, 'version', 'subscribers')
  local predecessor = redis.call('HGET', fetch, 'lastEvent') or ''
  local message = cmsgpack.pack({
    v = 1, type = type, event = event, timeStamp = now,
    predecessor = predecessor, registration = snapshot(),
  })
  local uid = redis.call('HGET', fetch, 'uid')
  local entry = redis.call('XADD', stream, '*', 'delivery', uid .. '/' .. event, 'message', message)
  redis.call('HSET', fetch, 'lastEvent', event)
  redis.call('HSET', events, event, table.concat({
    entry, set[1] or 0, set[2] or 0, 0, predecessor == '' and '-' or predecessor,
  }, ' '))
  redis.call('PUBLISH', stream, message)
end

-- End the fetch and publish its one completion event (R13, R14). The id is free and
-- the registration final before anybody can see the event (BF-EVT-05).
local function settle(result, reason)
  local names = redis.call('HMGET', fetch, 'id', 'seq', 'uid', 'hold')
  if redis.call('HGET', active, names[1]) == names[2] .. ':' .. names[3] then
    redis.call('HDEL', active, names[1])
  end
  local type = 'backgroundfetchsuccess'
  if reason == 'aborted' then
    type = 'backgroundfetchabort'
  elseif reason ~= '' then
    type = 'backgroundfetchfail'
  end
  redis.call('HSET', fetch, 'result', result, 'failureReason', reason, 'settledAt', now,
    'completion', type, 'holdUntil', now + tonumber(names[4]))
  announce()
  publish(type, type)
  local hold = tonumber(names[4])
  redis.call('ZADD', agenda, now + (hold > 0 and math.min(hold, retention) or retention), member)
end

-- Make the records unreadable and let their bytes go after a grace (R16, BF-PERF-08).
local function release()
  redis.call('HSET', fetch, 'recordsAvailable', 0, 'releasedAt', now)
  announce()
  redis.call('ZADD', agenda, now + release_grace, member)
end
