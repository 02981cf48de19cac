#!lua
-- join: make a subscriber part of the scope's set, its group included (R11, R12).
-- KEYS[1..3] see _set.lua   KEYS[4] scopes SET   KEYS[5] consumers ZSET
-- KEYS[6] leaving SET   KEYS[7] presence ZSET   KEYS[8] removed ZSET
-- ARGV[1] scope   ARGV[2] subscriber   ARGV[3] consumer   ARGV[4] lease ms
-- ARGV[5] 1 if this consumer had joined before: then its filter is not news
-- ARGV[6] member in the leaving SET and the presence ZSET
-- ARGV[7] types   ARGV[8] ids: the filter, see _filter.lua
-- ARGV[9] where a new subscriber starts: '-' with the next event, else ms since the
-- epoch, or, if negative, before now   ARGV[10] retention ms
-- Returns the version in which the subscriber joined, or got its filter; 0 if it was
-- removed since this consumer joined; -1 if it was removed, and what it was owed is not
-- concluded yet; -2 if it has had so many filters that another would not be bounded (R22);
-- -3 if the scope is being removed. One of a scope that was removed is removed with it.
--@include _filter
--@include _membership
--@include _set
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local subscriber, again, types, ids = ARGV[2], ARGV[5] == '1', ARGV[7], ARGV[8]
local of = memberships(redis.call('HGET', subscribers, subscriber))
local removing = redis.call('HEXISTS', scope, 'removing') == 1
local was_removed = #of == 0 and redis.call('ZSCORE', KEYS[8], ARGV[1])
if again and (of.removed or removing or was_removed) then
  return 0
elseif removing then
  return -3
end
if redis.call('SISMEMBER', KEYS[6], ARGV[6]) == 1 then
  return -1
end

local MEMBERSHIPS = 100
local function next_version()
  return redis.call('HINCRBY', scope, 'version', 1)
end

-- The first subscriber adopts what waited for one, and a lost group begins again at 0:
-- deliveries that have an outcome are skipped (R9, R12).
local start = '0'
if is_member(of) then
  if not again and (of[1].types ~= types or of[1].ids ~= ids) then
    forget_ended(of)
    local unused = is_unused(of)
    if #of >= MEMBERSHIPS and not unused then
      return -2
    end
    local version = next_version()
    depart(of, version)
    if unused then
      table.remove(of, 1)
      of[1].left = version
    end
    enter(of, version, nil, types, ids)
    write(subscriber, of)
  end
else
  -- One that was absent for too long comes back to what it is still owed.
  local fresh = #of == 0 or of.removed
  local from = fresh and tonumber(ARGV[9]) or nil
  if from and from < 0 then
    from = math.max(0, now + from)
  end
  if fresh and tonumber(redis.call('HGET', scope, 'subscribers') or 0) > 0 then
    start = from and math.max(0, from - 1) .. '-18446744073709551615' or '$'
    start = from == 0 and '0' or start
  end
  of = fresh and {} or of
  enter(of, next_version(), from, types, ids)
  write(subscriber, of)
  redis.call('SADD', KEYS[4], ARGV[1])
end
redis.pcall('XGROUP', 'CREATE', stream, subscriber, start, 'MKSTREAM')
redis.call('ZADD', KEYS[5], now + ARGV[4], ARGV[3])
redis.call('ZADD', KEYS[7], 'NX', now + ARGV[10], ARGV[6])
return of[1].joined
