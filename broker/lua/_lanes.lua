-- Included after _fetch.lua by every script about the lanes of a fetch.
-- KEYS[7] lanes HASH   KEYS[8] claims ZSET   KEYS[9] pool ZSET
local lanes, claims, pool = KEYS[7], KEYS[8], KEYS[9]

local function parse_lane(value)
  local nonce, deadline, job = string.match(value, '^(%S+) (%d+) (%S*)$')
  return nonce, tonumber(deadline), job
end

-- How many lanes this fetch may have now. A limit on its bytes is exact only while one
-- lane alone counts them (R18).
local function lanes_allowed(max_lanes, lane_size)
  local sizes = redis.call('HMGET', fetch, 'openRecords', 'downloadTotal', 'maxBytes', 'limited')
  if sizes[2] ~= '0' or (sizes[3] or '0') ~= '0' or sizes[4] == '1' then
    return 1
  end
  return math.max(1, math.min(max_lanes, math.ceil(tonumber(sizes[1]) / lane_size)))
end

-- Under a quota: grant the fetch what its responses need, and something ahead so that
-- its lane seldom has to ask, but little where the room is scarce; or as much as there is
-- room for. What the lane keeps is not taken away: it may have used it by now.
-- Returns the bytes that its responses may have in all (R18).
local AHEAD = 32 * 1024 * 1024
local function grant(need, keep)
  local sizes = redis.call('HMGET', fetch, 'uploadTotal', 'downloadTotal', 'charged')
  local total = redis.call('HMGET', scope, 'quota', 'used')
  local uploaded, reserved, charged = tonumber(sizes[1]), tonumber(sizes[2]), tonumber(sizes[3] or 0)
  local quota, others = tonumber(total[1] or 0), tonumber(total[2] or 0) - charged
  local wanted = uploaded + math.max(reserved, need)
  local room = quota == 0 and math.huge or math.max(0, quota - others - wanted)
  if reserved == 0 then
    wanted = wanted + math.min(AHEAD, math.floor(room / 8))
  end
  if quota > 0 and wanted > charged then
    wanted = math.min(wanted, math.max(charged, quota - others))
  end
  wanted = math.max(wanted, uploaded + keep)
  charge(wanted)
  return wanted - uploaded
end

-- What was granted ahead ends with the right of the lane.
local function end_grant()
  local sizes = redis.call('HMGET', fetch, 'limited', 'uploadTotal', 'downloadTotal', 'downloaded', 'result')
  if sizes[1] == '1' and sizes[5] == '' then
    charge(sizes[2] + math.max(tonumber(sizes[3]), tonumber(sizes[4])))
  end
end

-- Give what a lane works on back to the pool, and forget the lane. Nobody else would tell
-- the last of what it did (BF-PROG-08).
local function disband(lane)
  for _, index in ipairs(redis.call('ZRANGEBYSCORE', claims, lane, lane)) do
    redis.call('ZREM', claims, index)
    redis.call('ZADD', pool, now, index)
  end
  redis.call('HDEL', lanes, lane)
  end_grant()
  if redis.call('HGET', fetch, 'dirty') == '1' then
    announce()
  end
end

-- Ms at which the window opens in which this fetch may transfer; nil while it is open, or
-- if there is none. It is two minutes of the day: <first> <end>.
local DAY = 86400000
local function opens_at(window)
  local from, till = string.match(window or '', '^(%d+) (%d+)$')
  if not from then
    return nil
  end
  from, till = from * 60000, till * 60000
  local at = now % DAY
  local before, after = at < from, at >= till
  if (from < till and (before or after)) or (from > till and before and after) then
    return now - at + from + (before and 0 or DAY)
  end
end

-- Records that a lane could take at once.
local function available()
  local counts = redis.call('HMGET', fetch, 'records', 'nextRecord', 'window')
  if opens_at(counts[3]) then
    return 0
  end
  return counts[1] - counts[2] + redis.call('ZCOUNT', pool, '-inf', now)
end

-- Ms until the next record given back is due, or the window opens; or -1.
local function next_due()
  local opens = opens_at(redis.call('HGET', fetch, 'window'))
  if opens then
    return opens - now
  end
  local first = redis.call('ZRANGE', pool, 0, 0, 'WITHSCORES')
  return first[2] and math.max(0, tonumber(first[2]) - now) or -1
end

-- Write the time of the next look into the agenda: the first end of a lease, else the
-- time at which a record can be taken (R25).
local function plan()
  local at
  local all = redis.call('HGETALL', lanes)
  for i = 2, #all, 2 do
    local _, deadline = parse_lane(all[i])
    at = math.min(at or deadline, deadline)
  end
  if not at then
    at = available() > 0 and now or now + math.max(0, next_due())
  end
  redis.call('ZADD', agenda, at, member)
end
