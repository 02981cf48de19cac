#!lua flags=allow-oom
-- clear: end some fetches of a scope that is being removed, without an event (BF-EVT-13).
-- KEYS[1..6] see _fetch.lua: of the first   KEYS[7] latest HASH
-- KEYS[8] cleared ZSET   KEYS[9..] all keys of each fetch, then _places.lua's
-- ARGV[1..4] see _fetch.lua   ARGV[5] channel for lanes   ARGV[6] keys of one fetch
-- ARGV[7..] uids, then _places.lua's
-- Returns the jobs that are to leave RQ's queues, those of lanes at work not among them;
-- nothing if the scope is not being removed (any more). Nobody finds a cleared fetch. One
-- that may have bytes, or readers, keeps its keys until a reclaimer deleted them (R16, R17).
--@include _fetch
--@include _places
local latest, cleared = KEYS[7], KEYS[8]
local width, scope_name = tonumber(ARGV[6]), string.match(member, '^[^/]+')
local dropped = {}
if redis.call('HEXISTS', scope, 'removing') == 0 then
  return dropped
end

local function free_places(lanes)
  local at_work = {}
  for _, entry in ipairs(redis.call('HVALS', lanes)) do
    at_work[string.match(entry, '(%S*)$')] = true
  end
  local line = line_of()
  for _, job in ipairs(admitted(line)) do
    if not at_work[job] then
      redis.call('ZREM', line.places, job)
      dropped[#dropped + 1] = job
    end
  end
end

local function forget_name(of)
  if redis.call('HGET', active, of.id) == of.seq .. ':' .. of.uid then
    redis.call('HDEL', active, of.id)
  end
  if redis.call('HGET', latest, of.id) == of.uid then
    redis.call('HDEL', latest, of.id)
  end
end

-- keys: as FetchKeys.all() gives them. Returns whether there is nothing to delete but them.
local function finish(uid, keys)
  local names = redis.call('HMGET', fetch, 'id', 'seq', 'result', 'purged')
  if not names[1] then
    return true
  end
  forget_name({id = names[1], seq = names[2], uid = uid})
  redis.call('HSET', fetch, 'removed', 1, 'recordsAvailable', 0, 'releasedAt', now)
  if names[3] == '' then
    redis.call('HSET', fetch, 'result', 'failure', 'failureReason', 'aborted',
      'settledAt', now, 'paused', 0, 'prompt', 0)
    redis.call('PUBLISH', ARGV[5], uid)
  end
  free_places(keys.lanes)
  charge(0)
  announce()
  local used = redis.call('EXISTS', keys.bodies, keys.records, keys.lanes, keys.readers)
  return names[4] == '1' or used == 0
end

for i = 7, #ARGV - 2 do
  local uid, first = ARGV[i], 9 + (i - 7) * width
  member, fetch, jobs = scope_name .. '/' .. uid, KEYS[first], KEYS[first + 9]
  local nothing_left = finish(uid, {
    bodies = KEYS[first + 3], records = KEYS[first + 5], lanes = KEYS[first + 7],
    readers = KEYS[first + 11],
  })
  if nothing_left then
    redis.call('UNLINK', unpack(KEYS, first, first + width - 1))
  else
    redis.call('UNLINK', KEYS[first + 10])
    redis.call('ZADD', cleared, now + release_grace, member)
  end
  redis.call('ZREM', agenda, member)
  unlist_everywhere()
end
return dropped
