-- Included after _lanes.lua by the scripts that hand out records.
-- KEYS[10] states HASH   KEYS[11] requests HASH   KEYS[12] records HASH
local states, requests, records = KEYS[10], KEYS[11], KEYS[12]

-- Take up to `want` records for a lane: first those given back, then untouched ones.
local function claim(lane, want)
  local taken = redis.call('ZRANGEBYSCORE', pool, '-inf', now, 'LIMIT', 0, want)
  for _, index in ipairs(taken) do
    redis.call('ZREM', pool, index)
  end
  local counts = redis.call('HMGET', fetch, 'records', 'nextRecord')
  local count, cursor = tonumber(counts[1]), tonumber(counts[2])
  while #taken < want and cursor < count do
    taken[#taken + 1] = cursor
    cursor = cursor + 1
  end
  redis.call('HSET', fetch, 'nextRecord', cursor)
  for _, index in ipairs(taken) do
    redis.call('ZADD', claims, lane, index)
  end
  return taken
end

-- index, request, record state, bytes counted so far; four values for each record.
local function describe(indexes)
  local rows = {}
  for _, index in ipairs(indexes) do
    rows[#rows + 1] = tonumber(index)
    rows[#rows + 1] = redis.call('HGET', requests, index)
    rows[#rows + 1] = redis.call('HGET', records, index) or ''
    local state = redis.call('HGET', states, index)
    rows[#rows + 1] = state and tonumber(string.match(state, '^%d+')) or 0
  end
  return rows
end
