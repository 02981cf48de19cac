-- Included after _delivery.lua by scripts that write dead letters (R21).
-- KEYS[9] dead HASH   KEYS[10] copies ZSET
local dead, copies = KEYS[9], KEYS[10]
local HISTORY, COPY_BYTES = 50, 65536

local function read_history()
  local packed = redis.call('HGET', events, field .. '|history')
  return packed and cmsgpack.unpack(packed) or {}
end

-- Remember how an attempt ended: who, when and why. The newest HISTORY are kept.
local function remember(attempt, consumer, failed, reason)
  local history = read_history()
  history[#history + 1] = {
    attempt = attempt, consumer = consumer, at = now, failed = failed, reason = reason,
  }
  if #history > HISTORY then
    table.remove(history, 1)
  end
  redis.call('HSET', events, field .. '|history', cmsgpack.pack(history))
end

-- state: failed or unreadable, where it waits for a decision, or expired: a copy for
-- people, kept for one more retention.
local function write_letter(state, failures, reason)
  local letter = {
    v = 1, state = state, subscriber = subscriber, entry = entry, event = event,
    uid = redis.call('HGET', fetch, 'uid') or '', id = redis.call('HGET', fetch, 'id') or '',
    at = now, failures = failures, reason = reason, attempts = read_history(),
  }
  if state ~= 'unreadable' then
    local found = redis.call('XRANGE', stream, entry, entry)
    local packed = found[1] and found[1][2][4] or ''
    local ok, message = pcall(cmsgpack.unpack, packed)
    if ok and type(message) == 'table' and #packed <= COPY_BYTES then
      letter.message = message
    end
  end
  redis.call('HSET', dead, delivery, cmsgpack.pack(letter))
  if state ~= 'expired' then
    return
  end
  redis.call('ZADD', copies, now + retention, delivery)
  for _, old in ipairs(redis.call('ZRANGEBYSCORE', copies, '-inf', now, 'LIMIT', 0, 10)) do
    redis.call('HDEL', dead, old)
    redis.call('ZREM', copies, old)
  end
end

local function drop_letter()
  redis.call('ZREM', copies, delivery)
  return redis.call('HDEL', dead, delivery)
end
