-- Included after _fetch.lua by every script that wants, takes or ends lane jobs.
-- A lane job is in RQ only while it has a place. Of the jobs of one scope and priority
-- only so many have one, the others wait in line, the oldest fetch first: so no scope
-- gets far ahead of another in RQ's queues. A place is an expiring right (R25): a lease
-- for a lane, and longer than the longest time between two looks for a job in a queue.
-- KEYS, the last seven: jobs HASH; places ZSETs of high, auto, low; their waiting ZSETs
-- ARGV, the last two: places at most; patience ms: until a look repairs what was lost
local jobs = KEYS[#KEYS - 6]
local limit, patience = tonumber(ARGV[#ARGV - 1]), tonumber(ARGV[#ARGV])
local LINES = {}
for i, priority in ipairs({'high', 'auto', 'low'}) do
  LINES[priority] = {places = KEYS[#KEYS - 6 + i], waiting = KEYS[#KEYS - 3 + i]}
end
local QUEUED, FAR = 600000, 3600000

-- The line in which this fetch's jobs stand.
local function line_of(priority)
  return LINES[priority or redis.call('HGET', fetch, 'priority') or 'auto']
end

local function look_soon(job)
  local other = string.match(member, '^[^/]+/') .. string.match(job, '^[^-]+')
  redis.call('ZADD', agenda, 'LT', now + patience, other)
end

-- Who is first in line is looked at before long; the others rely on that (R25).
local function watch(line)
  local first = redis.call('ZRANGE', line.waiting, 0, 0)[1]
  if first then
    look_soon(first)
  end
end

-- Draw a job for a lane of this fetch; it waits in line until it is admitted.
local function wish(line, slot)
  local names = redis.call('HMGET', fetch, 'uid', 'seq')
  local job = names[1] .. '-' .. slot .. '-' .. redis.call('HINCRBY', fetch, 'jobsWanted', 1)
  redis.call('HSET', jobs, slot, job)
  redis.call('ZADD', line.waiting, names[2], job)
end

-- Give free places to the first in line; returns their jobs, for the caller to enqueue.
-- Unless `at_once` a few places gather first, so that jobs are enqueued many at a time:
-- a later end of a lane, or the look at the first in line, admits the rest.
local function admit(line, at_once)
  if redis.call('EXISTS', line.waiting) == 0 then
    return {}
  end
  redis.call('ZREMRANGEBYSCORE', line.places, '-inf', now)
  local free = math.min(limit - redis.call('ZCARD', line.places), 500)
  local drawn = {}
  if free > 0 and (at_once or free >= math.min(32, limit / 8)) then
    local first = redis.call('ZPOPMIN', line.waiting, free)
    for i = 1, #first, 2 do
      drawn[#drawn + 1] = first[i]
      redis.call('ZADD', line.places, now + QUEUED, first[i])
      look_soon(first[i])
    end
  end
  watch(line)
  return drawn
end

-- The job has ended, and its place with it. Returns the jobs to enqueue instead.
local function pass_on(job)
  for _, line in pairs(LINES) do
    if redis.call('ZREM', line.places, job) == 1 then
      return admit(line)
    end
  end
  return {}
end

-- Those of this fetch's jobs that have a place.
local function admitted(line)
  local mine = {}
  for _, job in ipairs(redis.call('HVALS', jobs)) do
    if redis.call('ZSCORE', line.places, job) then
      mine[#mine + 1] = job
    end
  end
  return mine
end

-- The fetch has ended, or is paused: no job of it waits any longer.
local function leave_line()
  local line, all = line_of(), redis.call('HVALS', jobs)
  if #all > 0 and redis.call('ZREM', line.waiting, unpack(all)) > 0 then
    watch(line)
  end
end
