#!lua flags=allow-oom
-- report: a lane says what its records came to, keeps its lease, and takes more.
-- The call whose record is the last open one ends the fetch (R14).
-- KEYS[1..6] see _fetch.lua   KEYS[7..9] see _lanes.lua   KEYS[10..12] see _claim.lua
-- then _places.lua's
-- ARGV[1..4] see _fetch.lua   ARGV[5] lane   ARGV[6] nonce   ARGV[7] lease ms
-- ARGV[8] ms between announcements   ARGV[9] records wanted   ARGV[10] records the lane
-- holds after this call   ARGV[11] bytes that responses need under a quota, else -1
-- ARGV[12] bytes that they may come to have before the lane hears the answer
-- ARGV[13..] two values a record: '<index> <stored bytes> <uploaded bytes> <result, -
-- while open> <delay ms, - to keep it>', and its record state ('' unchanged); then
-- _places.lua's
-- Returns {'ok', open records, ms until the next is due or -1, verdicts, claims, bytes
-- that the responses of the fetch may have or -1}; the same with 'paused' when the lane
-- is to leave before its lease ends, which stays as it is unless a window closed;
-- {'ended', verdicts, jobs to enqueue} when the fetch ended; {'gone'}, {'settled', jobs
-- to enqueue} or {'stale'} when this lane may no longer write. Counts are absolute, so a
-- repetition changes nothing (R18).
--@include _fetch
--@include _lanes
--@include _claim
--@include _places
local lane, nonce, lease = ARGV[5], ARGV[6], tonumber(ARGV[7])
local throttle, want, held = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local need, keep = tonumber(ARGV[11]), tonumber(ARGV[12])

local state = redis.call('HMGET', fetch, 'result', 'openRecords', 'failIndex', 'failReason', 'priority',
  'paused', 'window')
if not state[1] then
  return {'gone'}
end
local entry = redis.call('HGET', lanes, lane)
local holder, _, job = parse_lane(entry or '')
if state[1] ~= '' then
  return {'settled', holder == nonce and pass_on(job) or {}}
end
if holder ~= nonce then
  return {'stale'}
end
local open, fence = tonumber(state[2]), lane .. ':' .. nonce
local fail_index, fail_reason = tonumber(state[3] or -1), state[4] or ''
local downloaded, uploaded, over = 0, 0, false

-- Among failed records the lowest index gives the reason, a quota before all (R14).
local function note_failure(index, result)
  local quota, known = result == 'quota-exceeded', fail_reason == 'quota-exceeded'
  if fail_index < 0 or (quota and not known) or (quota == known and index < fail_index) then
    fail_index, fail_reason = index, result
  end
end

-- Tell people that an attempt came to nothing. Delay 0 only gives the record back.
local function note_attempt(index, result, delay, record)
  local ends = result ~= '' and result ~= 'success'
  if not ends and (result ~= '' or delay == '-' or delay == '0') then
    return
  end
  local read, state = pcall(cmsgpack.unpack, record)
  local detail = read and type(state) == 'table' and state.detail or ''
  local what = ends and result or 'again in ' .. delay .. ' ms'
  note(ends and 'record-failed' or 'record-waits',
    'record ' .. index .. ': ' .. what .. (detail == '' and '' or ', ' .. string.sub(detail, 1, 200)))
end

local REPORT = '^(%d+) (%d+) (%d+) (%S+) (%S+)$'
local function apply(i)
  local index, stored, sent, result, delay = string.match(ARGV[i], REPORT)
  local record = ARGV[i + 1]
  result = result == '-' and '' or result
  local before = redis.call('HGET', states, index) or '0 0  '
  local had, had_sent, old_result, old_fence = string.match(before, '^(%d+) (%d+) (%S*) (%S*)$')
  if redis.call('ZSCORE', claims, index) ~= lane then
    -- A repetition gets the first answer, also where it gave the record back (R14).
    local ends = old_result ~= '' or delay ~= '-'
    return ends and old_fence == fence and 'ok' or 'stale'
  end
  downloaded = downloaded + stored - had
  uploaded = uploaded + sent - had_sent
  redis.call('HSET', states, index, stored .. ' ' .. sent .. ' ' .. result .. ' ' .. fence)
  if record ~= '' then
    redis.call('HSET', records, index, record)
  end
  note_attempt(index, result, delay, record)
  if result ~= '' then
    redis.call('ZREM', claims, index)
    open = open - 1
    if result ~= 'success' then
      note_failure(tonumber(index), result)
    end
    over = over or result == 'download-total-exceeded'
  elseif delay ~= '-' then
    redis.call('ZREM', claims, index)
    redis.call('ZADD', pool, now + tonumber(delay), index)
  end
  return 'ok'
end

local verdicts = {}
for i = 13, #ARGV - 2, 2 do
  verdicts[#verdicts + 1] = apply(i)
end
if downloaded ~= 0 then
  redis.call('HINCRBY', fetch, 'downloaded', string.format('%d', downloaded))
  if downloaded > 0 then
    redis.call('HINCRBY', scope, 'downloaded', string.format('%d', downloaded))
  end
  if need < 0 then
    redis.call('HINCRBY', fetch, 'charged', string.format('%d', downloaded))
    redis.call('HINCRBY', scope, 'used', string.format('%d', downloaded))
  end
end
if uploaded ~= 0 then
  redis.call('HINCRBY', fetch, 'uploaded', string.format('%d', uploaded))
  if uploaded > 0 then
    redis.call('HINCRBY', scope, 'uploaded', string.format('%d', uploaded))
  end
end
redis.call('HSET', fetch, 'openRecords', open, 'failIndex', fail_index, 'failReason', fail_reason)
if over or open == 0 then
  local reason = over and 'download-total-exceeded' or fail_reason
  settle(reason == '' and 'success' or 'failure', reason)
  leave_line()
  return {'ended', verdicts, pass_on(job)}
end

-- When the window closes, the lease goes on: what is sent once may come to its end.
local paused, closed, taken = state[6] == '1', opens_at(state[7]), {}
if not paused then
  redis.call('HSET', lanes, lane, nonce .. ' ' .. now + lease .. ' ' .. job)
  redis.call('ZADD', line_of(state[5]).places, now + lease, job)
  taken = closed and {} or claim(lane, want)
end
if redis.call('ZCOUNT', claims, lane, lane) ~= held + #taken then
  -- An answer was lost: the lane holds records that it does not know of.
  taken = redis.call('ZRANGEBYSCORE', claims, lane, lane)
end
plan()
local seen = redis.call('HMGET', fetch, 'announcedAt', 'dirty')
if downloaded ~= 0 or uploaded ~= 0 or seen[2] == '1' then
  if now - seen[1] >= throttle then
    announce()
  else
    redis.call('HSET', fetch, 'dirty', 1)
  end
end
return {(paused or closed) and 'paused' or 'ok', open, next_due(), verdicts, describe(taken),
  need < 0 and -1 or grant(need, keep)}
