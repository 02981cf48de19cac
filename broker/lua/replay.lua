#!lua
-- replay: deliver again: the same delivery, its failures forgotten (R21).
-- KEYS[1..6] see _fetch.lua   KEYS[7..8] see _delivery.lua   KEYS[9..10] see _letter.lua
-- KEYS[11] tokens HASH   KEYS[12] subscribers HASH
-- ARGV[1..4] see _fetch.lua   ARGV[5..7] see _delivery.lua   ARGV[8] call token
-- ARGV[9] 1 whatever became of it, 0 only if it is a dead letter
-- Returns 1, the same for the same token (R23); 0 if it is no dead letter (any more), or
-- its fetch is gone; or, of any delivery, if a process works on it, it is still to come,
-- or the subscriber's present filter excludes what it is not owed (any more).
--@include _fetch
--@include _delivery
--@include _membership
--@include _letter
local answer = redis.call('HGET', KEYS[11], ARGV[8])
if answer then
  return tonumber(answer)
end
local record = read_event(event)
local status, _, attempt = read_delivery()

local function may_replay()
  if status == 'dead' or ARGV[9] == '0' then
    return status == 'dead'
  end
  local of = memberships(redis.call('HGET', KEYS[12], subscriber))
  if status == 'held' or not is_member(of) then
    return false
  end
  local id = redis.call('HGET', fetch, 'id') or ''
  if status == nil and is_owed(of, record, event, id) then
    return false
  end
  return status == 'waiting' or matches(of[1].types, of[1].ids, event, id)
end

if not record or not may_replay() then
  return 0
end
-- What has its outcome keeps it, and is not owed anew (R11).
if status ~= 'dead' and status ~= 'waiting' and standing == '' then
  standing = status or 'extra'
end
write_delivery('waiting', 0, attempt, '', '-')
drop_letter()
redis.call('ZADD', due, now, delivery)
disown('FORCE')
redis.call('HSET', KEYS[11], ARGV[8], 1)
return 1
