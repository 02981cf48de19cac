#!lua
-- register: make a staged background fetch active, with its wish for work (R1, R22).
-- KEYS[1..6] see _fetch.lua   KEYS[7] latest HASH   KEYS[8] staged HASH
-- KEYS[9] requests HASH   KEYS[10] scopes SET
-- KEYS[11] staged bodies HASH   KEYS[12] bodies HASH   then _places.lua's
-- ARGV[1..4] see _fetch.lua   ARGV[5] lanes wanted   ARGV[6] number of requests
-- ARGV[7..] registration fields and values, then _places.lua's
-- Returns {verdict, registration, jobs to enqueue}; verdict is 'ok', also when this very uid was
-- registered before (R23); 'quota' if the bytes that it announces do not fit in the quota
-- of the scope; 'removing' while the scope is removed; 'duplicate' if the id is active,
-- 'unstaged' if requests lack.
--@include _fetch
--@include _places
local latest, staged, requests, scopes = KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local lanes, count = tonumber(ARGV[5]), tonumber(ARGV[6])
local fields = {}
for i = 7, #ARGV - 2, 2 do
  fields[ARGV[i]] = ARGV[i + 1]
end

if redis.call('EXISTS', fetch) == 1 then
  return {'ok', redis.call('HGETALL', fetch), admitted(line_of())}
end
local rules = redis.call('HMGET', scope, 'quota', 'used', 'removing')
if rules[3] then
  return {'removing'}
end
if redis.call('HEXISTS', active, fields.id) == 1 then
  return {'duplicate'}
end
if redis.call('HLEN', staged) ~= count then
  return {'unstaged'}
end

-- What is announced is reserved, so that a fetch that began is not refused later.
local limited = tonumber(rules[1] or 0) > 0
local announced = tonumber(fields.uploadTotal) + (limited and tonumber(fields.downloadTotal) or 0)
if limited and (rules[2] or 0) + announced > tonumber(rules[1]) then
  return {'quota'}
end

local seq = redis.call('HINCRBY', scope, 'seq', 1)
redis.call('HSET', fetch, unpack(ARGV, 7, #ARGV - 2))
charge(announced)
redis.call('HSET', fetch, 'seq', seq, 'createdAt', now, 'version', 1, 'result', '',
  'failureReason', '', 'downloaded', 0, 'uploaded', 0, 'recordsAvailable', 1,
  'held', fields.hold == '0' and 0 or 1, 'limited', limited and 1 or 0, 'records', count,
  'openRecords', count, 'nextRecord', 0, 'announcedAt', 0, 'dirty', 0)
redis.call('RENAME', staged, requests)
redis.call('PERSIST', requests)
if redis.call('EXISTS', KEYS[11]) == 1 then
  redis.call('RENAME', KEYS[11], KEYS[12])
  redis.call('PERSIST', KEYS[12])
end
redis.call('HSET', active, fields.id, seq .. ':' .. fields.uid)
redis.call('HSET', latest, fields.id, fields.uid)
local us = clock[1] * 1000000 + clock[2]
enlist('', seq, us)
enlist(fields.paused == '1' and ':paused' or ':active', seq, us)
redis.call('SADD', scopes, fields.scope)
if fields.paused == '1' then
  redis.call('HSET', fetch, 'pausedAt', now)
end
local state, _, flat = snapshot()
redis.call('PUBLISH', progress, cmsgpack.pack(state))
if state.paused then
  return {'ok', flat, {}}
end
redis.call('ZADD', agenda, now + FAR, member)
local line = line_of(fields.priority)
local nobody_waits = redis.call('EXISTS', line.waiting) == 0
for lane = 0, (limited and 1 or lanes) - 1 do
  wish(line, lane)
end
return {'ok', flat, admit(line, nobody_waits)}
