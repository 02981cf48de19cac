#!lua flags=allow-oom
-- receive: hand new entries to a process, each with the right to handle it; acknowledge
-- and count what the subscriber's filter excludes (R10, R19, R20, R21).
-- KEYS[1..6] see _fetch.lua, of a fetch without a name: what it finds is made of them, for
-- nobody can name it before   KEYS[7..8] see _delivery.lua   KEYS[9..10] see _begin.lua
-- KEYS[11] arrived HASH
-- ARGV[1..4] see _fetch.lua   ARGV[5] subscriber   ARGV[6..7] ''   ARGV[8..9] see _begin.lua
-- ARGV[10] how many at most   ARGV[11] how many to look at, at most
-- ARGV[12] nonce, which ends with the call's number; '' begins nothing
-- ARGV[13] an entry: what this consumer has of later ones was handed over by a blocked read
-- or in an answer that was lost, and is begun too; '' if there is none of either
-- ARGV[14] number of the last call whose answer came, '' if that is known
-- ARGV[15] version of messages that the process knows
-- Returns {looked at, or -1 if paused; last entry looked at, or ''}, and then for each that
-- this process may handle {entry, message, attempt, failures, registration, or {} if it is
-- the message's}, or only {entry, message} of what begin is to decide. A repetition under
-- the same nonce gets the same rights.
--@include _fetch
--@include _delivery
--@include _membership
--@include _begin
local prefix, suffix, scope_name = KEYS[1], string.sub(KEYS[2], #KEYS[1] + 1), ARGV[1]
local wanted, limit, nonce = tonumber(ARGV[10]), tonumber(ARGV[11]), ARGV[12]
local known = tonumber(ARGV[15])

-- The line that speaks about a version: the one that covers it, or else the first.
local function line_of(version)
  for _, one in ipairs(of) do
    if one.joined <= version then
      return one
    end
  end
  return of[#of]
end

local function is_excluded(fields, name)
  local version = tonumber(fields.version)
  local one = version and line_of(version)
  if not (one and name and fields.id) then
    return false
  end
  return not matches(one.types, one.ids, name, fields.id)
end

-- What cannot be begun by itself does not hold up the others: begin is asked about it.
local function begun(fields, uid, name)
  local version = tonumber(fields.v)
  if nonce == '' or not (uid and version) or version > known or version < known - 1 then
    return
  end
  fetch, events, member = prefix .. uid, prefix .. uid .. suffix, scope_name .. uid
  event, field, delivery = name, name .. '|' .. subscriber, entry .. '/' .. fields.delivery
  local ok, answer = pcall(begin, nonce, fields.state)
  return ok and answer
end

local rows, kept, excluded = {0, ''}, 0, 0
local function hand_over(flat)
  local fields = {}
  for i = 1, #flat, 2 do
    fields[flat[i]] = flat[i + 1]
  end
  local uid, name = string.match(fields.delivery or '', '^([^/]+)/(.+)$')
  if is_excluded(fields, name) then
    redis.call('XACK', stream, subscriber, entry)
    excluded = excluded + 1
    return
  end
  kept = kept + 1
  local answer = begun(fields, uid, name)
  if not answer then
    rows[#rows + 1] = {entry, fields.message or ''}
  elseif answer[1] == 'ok' then
    rows[#rows + 1] = {entry, fields.message, answer[2], answer[3], answer[4]}
  end
end

local function read(count, after)
  local reply = redis.call('XREADGROUP', 'GROUP', subscriber, consumer, 'COUNT', count,
    'STREAMS', stream, after)
  local entries = reply and reply[1] and reply[1][2] or {}
  for _, row in ipairs(entries) do
    entry = row[1]
    if row[2] then -- else it was trimmed away
      hand_over(row[2])
    end
    rows[2] = entry
  end
  return #entries
end

if ARGV[14] ~= '' then
  redis.call('HSET', KEYS[11], consumer, ARGV[14])
end
if ARGV[13] ~= '' then
  read(limit, ARGV[13])
end
while not paused and kept < wanted and kept + excluded < limit do
  local asked = math.min(wanted - kept, limit - kept - excluded, 100)
  if read(asked, '>') < asked then
    break
  end
end
if excluded > 0 then
  redis.call('HINCRBY', KEYS[10], 'excluded', excluded)
end
leave_sets()
lease_begun()
rows[1] = paused and -1 or kept + excluded
return rows
