#!lua flags=allow-oom
-- look: do what is due for one background fetch, and write when to look again (R25).
-- KEYS[1..6] see _fetch.lua   KEYS[7..9] see _lanes.lua   KEYS[10..11] see _work.lua
-- KEYS[12] readers ZSET   KEYS[13] latest HASH
-- KEYS[14] subscribers HASH   KEYS[15..] all keys of the fetch, then _places.lua's
-- ARGV[1..4] see _fetch.lua   ARGV[5..6] see _work.lua   then _places.lua's
-- Returns {verdict, jobs to enqueue, dead lanes' jobs, deliveries}; verdict is 'work', 'wait',
-- 'released', 'purge' (delete the blobs, then call purged), 'forget' (the same a day after
-- the retention, though some store is not to be found), 'gone', or 'expire' (the
-- retention has ended: conclude these deliveries, two values for each, delivery and
-- subscriber; then look again). The retention of a fetch that was forgotten, or whose scope was
-- removed, is over; its agenda is the cleared ZSET.
--@include _fetch
--@include _lanes
--@include _membership
--@include _places
--@include _unsettled
--@include _work
local readers = KEYS[12]

local function again(at)
  redis.call('ZADD', agenda, at, member)
  return {'wait', {}, {}}
end

local function look_at_active()
  if redis.call('HGET', fetch, 'paused') == '1' then
    return wind_down()
  end
  return want_work()
end

-- A producer's hold is a member of the set: where it is the only one, the end of the
-- hold settles the event. A set without members is open (R12).
local function completion_settled(completion)
  local value = redis.call('HGET', events, completion)
  local record = value and parse_event(value)
  local held = redis.call('HGET', fetch, 'held') == '1'
  return record and (record.settled >= record.owed or (record.open and held))
end

local function look_at_settled()
  local state = redis.call('HMGET', fetch, 'recordsAvailable', 'completion', 'settledAt',
    'holdUntil', 'purged', 'id', 'uid', 'releasedAt', 'removed')
  local ends = state[9] and tonumber(state[8]) or state[3] + retention
  -- Each delivery gets an outcome before the retention deletes anything (R9).
  if ends <= now then
    local open = unsettled(KEYS[14])
    if #open > 0 then
      again(now)
      return {'expire', {}, {}, open}
    end
  end
  if state[1] == '1' then
    local done, hold = completion_settled(state[2]), tonumber(state[4])
    if ends <= now or (done and hold <= now) then
      release()
      return {'released', {}, {}}
    end
    return again(done and math.min(hold, ends) or ends)
  end
  if state[5] ~= '1' then
    if state[8] + release_grace > now then
      return again(state[8] + release_grace)
    end
    redis.call('ZREMRANGEBYSCORE', readers, '-inf', now)
    local reader = redis.call('ZRANGE', readers, 0, 0, 'WITHSCORES')
    again(reader[2] or now + 60000)
    local verdict = ends + 86400000 <= now and 'forget' or 'purge'
    return {reader[1] and 'wait' or verdict, {}, {}}
  end
  if ends > now then
    return again(ends)
  end
  local fields = redis.call('HGETALL', events)
  for i = 1, #fields, 2 do
    if not string.find(fields[i], '|', 1, true) then
      redis.call('XDEL', stream, string.match(fields[i + 1], '^%S+'))
    end
  end
  if redis.call('HGET', KEYS[13], state[6]) == state[7] then
    redis.call('HDEL', KEYS[13], state[6])
  end
  unlist_everywhere()
  redis.call('ZREM', agenda, member)
  for i = 15, #KEYS - 7 do
    redis.call('DEL', KEYS[i])
  end
  return {'gone', {}, {}}
end

local result = redis.call('HGET', fetch, 'result')
if not result then
  redis.call('ZREM', agenda, member)
  unlist_everywhere()
  return {'gone', {}, {}}
end
return result == '' and look_at_active() or look_at_settled()
