#!lua flags=allow-oom
-- bulk: write down how far an action on many fetches has come, unless somebody is further.
-- KEYS[1] bulk HASH   ARGV[1] fingerprint: which action on which fetches   ARGV[2] step
-- ARGV[3] progress after this step   ARGV[4] how long it is kept, ms
-- Returns {verdict, progress}: 'ok' with what is written now, by this call or by another
-- that took the same step, or a later one; 'other' if the token stands for another action.
local known = redis.call('HMGET', KEYS[1], 'fingerprint', 'step', 'progress')
if known[1] and known[1] ~= ARGV[1] then
  return {'other', ''}
end
if tonumber(known[2] or -1) >= tonumber(ARGV[2]) then
  return {'ok', known[3]}
end
redis.call('HSET', KEYS[1], 'fingerprint', ARGV[1], 'step', ARGV[2], 'progress', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return {'ok', ARGV[3]}
