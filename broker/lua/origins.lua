#!lua flags=allow-oom
-- origins: a process says how it stands with some origins, and is told what it may do.
-- A grant is a member of the holders with a deadline (R25): what a process may run is
-- booked before it is told, and booked lower only when the process says that it keeps to
-- less. So the sum of what runs never exceeds the limit, unless that was lowered since.
-- KEYS[1] origins ZSET   KEYS[2] reclaim HASH   KEYS[3..] three for each origin: its
-- hash, holders ZSET, grants HASH
-- ARGV[1] nonce   ARGV[2] lease ms   ARGV[3] connections   ARGV[4] requests per 10^6 s,
-- 0 for any   ARGV[5] ms for each step of recovery   ARGV[6] ms between two lowerings
-- ARGV[7] ms that a lowered origin is remembered   ARGV[8] channel
-- ARGV[9..] three values for each origin: its name, '<held> <wanted> <used> <requests per
-- 10^6 s> <1 after good answers> <ms to pause> <ms until the next request is due>', and why
-- to lower the limit, or ''
-- Returns seven values for each: connections, requests per 10^6 s, ms until the first of
-- them, ms of pause left, 1 if others wait for what this process has, the limit, its reason.
local nonce, lease, base, full_rate = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local recovery, lull, memory = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
-- Deadlines that passed while nobody could renew anything prove nothing (R15).
local grace = tonumber(redis.call('HGET', KEYS[2], 'grace_until') or 0) > now
local GRANT = '^(%d+) (%d+) (%d+) (%d+)$'

-- What one of several processes gets of the limit: none gets more than it wants, none
-- less than another. What cannot be divided goes round, one part of a lease each.
local function fair_share(limit, wants)
  local names, left = {}, limit
  for name, want in pairs(wants) do
    names[#names + 1] = want > 0 and name or nil
  end
  table.sort(names, function(a, b)
    return wants[a] < wants[b] or (wants[a] == wants[b] and a < b)
  end)
  for i, name in ipairs(names) do
    local among = #names - i + 1
    local even = math.floor(left / among)
    if wants[name] > even then
      local spare, first = left - even * among, math.floor(4 * now / lease)
      for j = i, #names do
        if names[j] == nonce then
          return even + ((j - i + first) % among < spare and 1 or 0)
        end
      end
      return wants[nonce]
    end
    left = left - wants[name]
  end
  return wants[nonce]
end

-- What the other processes hold, and everybody's wishes.
local function look_at_others(holders, grants, want)
  for _, dead in ipairs(grace and {} or redis.call('ZRANGEBYSCORE', holders, '-inf', now)) do
    redis.call('ZREM', holders, dead)
    redis.call('HDEL', grants, dead)
  end
  local others = {held = 0, rate = 0, wanting = want > 0 and 1 or 0, wants = {[nonce] = want}}
  local all = redis.call('HGETALL', grants)
  for i = 1, #all, 2 do
    local held, wanted, _, rate = string.match(all[i + 1], GRANT)
    if all[i] == nonce then
      others.my_held, others.my_rate = tonumber(held), tonumber(rate)
    else
      others.held, others.rate = others.held + held, others.rate + rate
      others.wants[all[i]] = tonumber(wanted)
      others.wanting = others.wanting + (wanted ~= '0' and 1 or 0)
      others.waiting = others.waiting or tonumber(wanted) > tonumber(held)
        or (full_rate > 0 and wanted ~= '0' and rate == '0')
    end
  end
  return others
end

-- Halve the limit for a reason, let it rise by one after good answers, or leave it.
local function adjust(hash, reason, good, pause)
  local known = redis.call('HMGET', hash, 'limit', 'loweredAt', 'steppedAt', 'pausedUntil', 'reason')
  local lowered, stepped = tonumber(known[2]), tonumber(known[3] or 0)
  local state = {limit = base, paused = tonumber(known[4] or 0), reason = known[5] or ''}
  if lowered then
    state.limit = math.min(base, tonumber(known[1]))
  end
  if reason ~= '' then
    if not lowered or now - lowered >= lull then
      state.limit, lowered, state.news = math.max(1, math.floor(state.limit / 2)), now, true
    end
    if pause > 0 and now + pause > state.paused then
      state.paused, state.news = now + pause, true
    end
    state.reason, stepped = reason, now
  elseif good and lowered and now - stepped >= recovery and state.paused <= now then
    state.limit, stepped = state.limit + 1, now
    if state.limit >= base then
      redis.call('HDEL', hash, 'loweredAt', 'steppedAt', 'pausedUntil', 'reason')
      lowered, state.reason, state.limit = nil, '', base
    end
  end
  if lowered then
    redis.call('HSET', hash, 'loweredAt', lowered, 'steppedAt', stepped,
      'pausedUntil', state.paused, 'reason', state.reason)
  end
  redis.call('HSET', hash, 'limit', state.limit, 'base', base, 'rate', string.format('%g', full_rate / 1e6))
  state.lowered = lowered
  return state
end

-- A process that comes to a share of the rate waits for its first request as long as all
-- who came to one before: requests of many newcomers are as far apart as those of one.
local function first_request(hash, had, pace, rest)
  if full_rate == 0 then
    return 0
  end
  local free = tonumber(redis.call('HGET', hash, 'nextAt') or 0)
  if had > 0 and pace == 0 then
    redis.call('HSET', hash, 'nextAt', math.max(free, now + rest))
  elseif had == 0 and pace > 0 then
    local first = math.max(free, now)
    redis.call('HSET', hash, 'nextAt', math.ceil(first + 1e9 / full_rate))
    return first - now
  end
  return 0
end

local function tend(hash, holders, grants, origin, words, reason)
  local numbers = {}
  for word in string.gmatch(words, '%d+') do
    numbers[#numbers + 1] = tonumber(word)
  end
  local held, want, used, rate, good, pause, rest = unpack(numbers)
  local others = look_at_others(holders, grants, want)
  local state = adjust(hash, reason, good == 1, pause)

  local share = fair_share(state.limit, others.wants)
  local granted = math.max(0, math.min(share, state.limit - others.held))
  local even = want > 0 and math.ceil(full_rate / others.wanting) or 0
  local pace = math.max(0, math.min(even, full_rate - others.rate))
  local booked, booked_pace = math.max(held, granted), math.max(rate, pace)
  local wait = first_request(hash, others.my_rate or 0, booked_pace, rest)
  if want == 0 and booked == 0 then
    redis.call('ZREM', holders, nonce)
    redis.call('HDEL', grants, nonce)
  else
    redis.call('ZADD', holders, now + lease, nonce)
    redis.call('HSET', grants, nonce, table.concat({booked, want, used, booked_pace}, ' '))
  end

  local freed = (others.my_held or 0) > booked or (others.my_rate or 0) > booked_pace
  -- What the others want may be less by now, and what they hold more than their share.
  local short = (granted < want and others.held > 0) or pace < even
  if short and now - tonumber(redis.call('HGET', hash, 'nudgedAt') or 0) >= lease / 10 then
    redis.call('HSET', hash, 'nudgedAt', now)
    state.news = true
  end
  if state.news or (freed and others.waiting) then
    redis.call('PUBLISH', ARGV[8], nonce .. ' ' .. origin)
  end
  local keep = 2 * lease + (full_rate > 0 and math.ceil(2e9 / full_rate) or 0)
  if state.lowered then
    keep = math.max(0, state.paused - now) + memory
  end
  redis.call('ZADD', KEYS[1], now + keep, origin)
  redis.call('PEXPIRE', hash, keep)
  redis.call('PEXPIRE', holders, memory)
  redis.call('PEXPIRE', grants, memory)
  return granted, pace, wait, math.max(0, state.paused - now), others.waiting and 1 or 0, state.limit, state.reason
end

redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local rows = {}
for i = 0, (#KEYS - 2) / 3 - 1 do
  local key, at = 3 + 3 * i, 9 + 3 * i
  for _, value in ipairs({tend(KEYS[key], KEYS[key + 1], KEYS[key + 2], ARGV[at], ARGV[at + 1], ARGV[at + 2])}) do
    rows[#rows + 1] = value
  end
end
return rows
