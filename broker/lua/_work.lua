-- Included after _lanes.lua and _places.lua by the scripts that want work for a fetch.
-- KEYS[10] RQ queue LIST   KEYS[11] reclaim HASH
-- ARGV[5] lanes at most   ARGV[6] records per lane
local queue, reclaim = KEYS[10], KEYS[11]
local max_lanes, lane_size = tonumber(ARGV[5]), tonumber(ARGV[6])

-- Lanes whose lease is over lose their records, unless leases ran on while nobody
-- could renew them (R15).
local function end_dead_lanes(line)
  local dead = {}
  if tonumber(redis.call('HGET', reclaim, 'grace_until') or 0) > now then
    return dead
  end
  local all = redis.call('HGETALL', lanes)
  for i = 1, #all, 2 do
    local _, deadline, job = parse_lane(all[i + 1])
    if deadline <= now then
      disband(all[i])
      note('lane-lost', 'lane ' .. all[i])
      redis.call('ZREM', line.places, job)
      dead[#dead + 1] = job
    end
  end
  return dead
end

-- Want jobs for the lanes that are missing: neither at work, nor in the queue, nor in
-- line for it. Returns how many are wanted now.
local function want_jobs(line)
  local at_work, all = {}, redis.call('HVALS', lanes)
  for _, entry in ipairs(all) do
    local _, _, job = parse_lane(entry)
    at_work[job] = true
  end
  local allowed = lanes_allowed(max_lanes, lane_size)
  local missing, idle = allowed - #all, {}
  for slot = 0, allowed - 1 do
    local job = redis.call('HGET', jobs, slot) or ''
    if redis.call('ZSCORE', line.waiting, job) then
      missing = missing - 1
    elseif redis.call('LPOS', queue, job) then
      missing = missing - 1
      redis.call('ZADD', line.places, now + QUEUED, job)
    else
      idle[#idle + 1] = slot
      if not at_work[job] then
        redis.call('ZREM', line.places, job)
      end
    end
  end
  local wanted = math.max(0, math.min(missing, #idle))
  for i = 1, wanted do
    wish(line, idle[i])
  end
  return wanted
end

-- Whether no job of this fetch is in RQ, because all wait in line.
local function waits_in_line(line)
  for _, job in ipairs(redis.call('HVALS', jobs)) do
    if redis.call('ZSCORE', line.places, job) then
      return false
    end
  end
  return true
end

-- When to look again at a fetch on which no lane works. A queue that does not move is
-- asked less and less often.
local function be_patient(line, wanted)
  if waits_in_line(line) then
    redis.call('ZADD', agenda, now + FAR, member)
    watch(line)
    return
  end
  local waited = tonumber(redis.call('HGET', fetch, 'patience') or 0)
  local pause = wanted > 0 and patience or math.min(math.max(2 * waited, patience), 300000)
  redis.call('HSET', fetch, 'patience', pause)
  redis.call('ZADD', agenda, now + pause, member)
end

-- Want what an active fetch lacks, and write when to look at it again. Returns the
-- verdict of look, jobs to enqueue and dead lanes' jobs.
local function want_work()
  local line = line_of()
  local dead = end_dead_lanes(line)
  if available() == 0 then
    plan()
    return {'wait', admit(line, true), dead}
  end
  local wanted = want_jobs(line)
  local drawn = admit(line, true)
  plan()
  if redis.call('HLEN', lanes) > 0 then
    -- Where a lease is over, grace holds it up, which must not cost patience (R15).
    local grace = tonumber(redis.call('HGET', reclaim, 'grace_until') or 0)
    redis.call('ZADD', agenda, 'GT', grace, member)
  else
    be_patient(line, wanted)
  end
  return {'work', drawn, dead}
end

-- A paused fetch is looked at only until its last lane has left, or is dead (R25).
local function wind_down()
  local line = line_of()
  local dead = end_dead_lanes(line)
  if redis.call('HLEN', lanes) > 0 then
    plan()
    local grace = tonumber(redis.call('HGET', reclaim, 'grace_until') or 0)
    redis.call('ZADD', agenda, 'GT', grace, member)
  else
    redis.call('ZREM', agenda, member)
  end
  return {'wait', admit(line, true), dead}
end
