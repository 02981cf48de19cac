#!lua flags=allow-oom
-- conclude: give one delivery an outcome that is no acknowledgement (R9, R21).
-- KEYS[1..6] see _fetch.lua   KEYS[7..8] see _delivery.lua   KEYS[9..10] see _letter.lua
-- KEYS[11] subscribers HASH
-- ARGV[1..4] see _fetch.lua   ARGV[5..7] see _delivery.lua
-- ARGV[8] outcome: 'purged' for a dead letter; 'expired' when the fetch's retention has
-- ended, or it was forgotten, which leaves a copy; 'removed' when the subscriber has left
-- Returns 1 if the delivery has this outcome, also on a repetition, or if a dead letter
-- without a delivery was dropped; else 0.
--@include _fetch
--@include _delivery
--@include _membership
--@include _letter
local outcome = ARGV[8]
local SETTLED = {acked = true, purged = true, expired = true, removed = true}

local function may_conclude(status, record)
  if outcome == 'purged' then
    return status == 'dead'
  end
  local of = memberships(redis.call('HGET', KEYS[11], subscriber))
  local id = redis.call('HGET', fetch, 'id') or ''
  if not status and not is_owed(of, record, event, id) then
    return false
  end
  if outcome == 'removed' then
    return of.removed
  end
  local ended = redis.call('HMGET', fetch, 'settledAt', 'removed')
  return ended[2] or (ended[1] and ended[1] + retention <= now)
end

local record, status, failures, attempt, nonce, consumer = read_both()
if not record or SETTLED[status] then
  local dropped = outcome == 'purged' and drop_letter() or 0
  return status == outcome and 1 or dropped
end
if not may_conclude(status, record) then
  return 0
end
if outcome == 'expired' then
  write_letter('expired', failures, 'nobody had settled it when the '
    .. (redis.call('HEXISTS', fetch, 'removed') == 1 and 'fetch was forgotten' or 'retention ended'))
else
  drop_letter()
end
settle_delivery(record, outcome, failures, attempt, nonce, consumer)
leave_sets()
return 1
