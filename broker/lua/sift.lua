#!lua flags=allow-oom
-- sift: read new entries for a subscriber that has a filter; acknowledge and count what
-- the filter excludes, so that it costs neither a wait nor a way to the process (R21).
-- KEYS[1] event STREAM   KEYS[2] subscribers HASH   KEYS[3] subscriber's state HASH
-- ARGV[1] subscriber   ARGV[2] consumer   ARGV[3] how many at most   ARGV[4] how many to
-- look at, at most
-- Returns {looked at, or -1 if paused; the stream's last entry}, and then entry and
-- message of each that is for this process. Whether it begins, begin decides. An answer
-- that is lost is read again from the consumer's pending list (R20).
--@include _filter
--@include _membership
local stream, subscriber, consumer = KEYS[1], ARGV[1], ARGV[2]
local wanted, limit = tonumber(ARGV[3]), tonumber(ARGV[4])
local of = memberships(redis.call('HGET', KEYS[2], subscriber))

-- The line that speaks about a version: the one that covers it, or else the first.
local function line_of(version)
  for _, one in ipairs(of) do
    if one.joined <= version then
      return one
    end
  end
  return of[#of]
end

local function is_excluded(fields)
  local event = string.match(fields.delivery or '', '^[^/]+/(.+)$')
  local version = tonumber(fields.version)
  local one = version and line_of(version)
  if not (one and event and fields.id) then
    return false
  end
  return not matches(one.types, one.ids, event, fields.id)
end

local function read(count)
  local reply = redis.call('XREADGROUP', 'GROUP', subscriber, consumer, 'COUNT', count,
    'STREAMS', stream, '>')
  return reply and reply[1] and reply[1][2] or {}
end

local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
local rows = {0, newest and newest[1] or '0-0'}
if redis.call('HEXISTS', KEYS[3], 'paused') == 1 then
  rows[1] = -1
  return rows
end
local kept, excluded = 0, 0
repeat
  local asked = math.min(wanted - kept, limit - kept - excluded, 100)
  local entries = read(asked)
  for _, entry in ipairs(entries) do
    local fields = {}
    for i = 1, #entry[2], 2 do
      fields[entry[2][i]] = entry[2][i + 1]
    end
    if is_excluded(fields) then
      redis.call('XACK', stream, subscriber, entry[1])
      excluded = excluded + 1
    else
      rows[#rows + 1] = entry[1]
      rows[#rows + 1] = fields.message or ''
      kept = kept + 1
    end
  end
until #entries < asked or kept >= wanted or kept + excluded >= limit
if excluded > 0 then
  redis.call('HINCRBY', KEYS[3], 'excluded', excluded)
end
rows[1] = kept + excluded
return rows
