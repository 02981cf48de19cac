-- Included after _delivery.lua and _membership.lua by scripts that take the right to
-- handle some deliveries (R10, R19). They call leave_sets() and lease_begun() in the end.
-- KEYS[9] subscribers HASH   KEYS[10] subscriber's state HASH
-- ARGV[8] consumer   ARGV[9] lease ms
local consumer, lease = ARGV[8], tonumber(ARGV[9])
local of = memberships(redis.call('HGET', KEYS[9], subscriber))
of.removed = of.removed or redis.call('HEXISTS', scope, 'removing') == 1
local paused = redis.call('HEXISTS', KEYS[10], 'paused') == 1
local leased = {}

local function done()
  done_with[#done_with + 1] = entry
  not_due[#not_due + 1] = delivery
  return {'done'}
end

local function later(verdict, at)
  redis.call('ZADD', due, at, delivery)
  disown()
  return {verdict}
end

-- A holder without a lease would never be taken for dead (R25): half of this script may
-- be all that was left in the append-only file. A living one extends.
local function keep_lease()
  if not redis.call('ZSCORE', leases, delivery) then
    redis.call('ZADD', leases, now + lease, delivery)
  end
  return {'held'}
end

-- Whether the fetch's event before it is owed here too, and has not begun.
local function comes_later(record, id)
  if record.predecessor == '-' then
    return false
  end
  local before = redis.call('HMGET', events, record.predecessor, record.predecessor .. '|' .. subscriber)
  return before[1] and not before[2]
    and is_owed(of, parse_event(before[1]), record.predecessor, id)
end

-- version: of the registration that is known. Returns what begin.lua says of each.
local function begin(nonce, version)
  local record, status, failures, attempt, holder = read_both()
  -- What a removed subscriber was owed becomes 'removed' (R21); a removed scope owes none.
  if not record or of.removed then
    return done()
  end
  local known = redis.call('HMGET', fetch, 'id', 'version', 'dirty', 'removed')
  if known[4] then
    return done()
  end
  local id = known[1] or ''
  if standing == '' and not is_owed(of, record, event, id) then
    if not is_wanted(of, record.version, entry, event, id) then
      return done()
    end
    standing = 'extra'
  end
  if status and status ~= 'held' and status ~= 'waiting' then
    return done()
  end
  if status == 'held' and holder ~= nonce then
    return keep_lease()
  end
  if status ~= 'held' and paused then
    return later('paused', now)
  end
  if comes_later(record, id) then
    return later('wait', now + 200)
  end
  if status ~= 'held' then
    attempt = attempt + 1
    note('begun', event, subscriber, attempt, consumer)
  end
  write_delivery('held', failures, attempt, nonce, consumer)
  leased[#leased + 1] = now + lease
  leased[#leased + 1] = delivery
  not_due[#not_due + 1] = delivery
  local is_known = known[2] == version and known[3] ~= '1'
  return {'ok', attempt, failures, is_known and {} or redis.call('HGETALL', fetch)}
end

local function lease_begun()
  if #leased > 0 then
    redis.call('ZADD', leases, unpack(leased))
  end
end
