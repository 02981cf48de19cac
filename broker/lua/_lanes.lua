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
  local sizes = redis.call('HMGET', fetch, 'openRecords', 'downloadTotal', 'maxBytes')
  if sizes[2] ~= '0' or (sizes[3] or '0') ~= '0' then
    return 1
  end
  return math.max(1, math.min(max_lanes, math.ceil(tonumber(sizes[1]) / lane_size)))
end

-- Give what a lane works on back to the pool, and forget the lane.
local function disband(lane)
  for _, index in ipairs(redis.call('ZRANGEBYSCORE', claims, lane, lane)) do
    redis.call('ZREM', claims, index)
    redis.call('ZADD', pool, now, index)
  end
  redis.call('HDEL', lanes, lane)
end

-- Records that a lane could take at once.
local function available()
  local counts = redis.call('HMGET', fetch, 'records', 'nextRecord')
  return counts[1] - counts[2] + redis.call('ZCOUNT', pool, '-inf', now)
end

-- Ms until the next record given back is due, or -1.
local function next_due()
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
