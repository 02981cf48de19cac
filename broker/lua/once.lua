#!lua
-- once: a call that carries an idempotency key: begin it, answer it, or give it up (R23).
-- KEYS[1] call HASH: fingerprint, token, holder, until, answer
-- ARGV[1] verb   ARGV[2] holder: a nonce of who makes the call now (R2)
-- 'begin', also to go on with one's own:
--   ARGV[3] fingerprint   ARGV[4] token   ARGV[5] lease ms   ARGV[6] how long it is kept, ms
-- 'answer': ARGV[3] answer, kept as long as the rest   'fail': the next may try at once
-- 'forget': nothing was done
-- Returns {verdict, token, answer}: 'begun' with the token that stands for the call, that
-- of the first if it died; 'done' with the answer; 'busy'; 'other' for another call with
-- the same key; 'gone' if it is no longer the holder's.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local verb, holder = ARGV[1], ARGV[2]
local call = redis.call('HMGET', KEYS[1], 'fingerprint', 'token', 'holder', 'until', 'answer')
local fingerprint, token, mine = call[1], call[2], call[3] == holder

if verb ~= 'begin' then
  if not mine then
    return {'gone', '', ''}
  end
  if verb == 'answer' then
    redis.call('HSET', KEYS[1], 'answer', ARGV[3])
  elseif verb == 'fail' then
    redis.call('HSET', KEYS[1], 'until', 0)
  else
    redis.call('DEL', KEYS[1])
  end
  return {'done', token, ''}
end

if fingerprint and fingerprint ~= ARGV[3] then
  return {'other', '', ''}
end
if call[5] then
  return {'done', token, call[5]}
end
if not mine and tonumber(call[4] or 0) > now then
  return {'busy', '', ''}
end
if not fingerprint then
  token = ARGV[4]
  redis.call('HSET', KEYS[1], 'fingerprint', ARGV[3], 'token', token)
  redis.call('PEXPIRE', KEYS[1], ARGV[6])
end
redis.call('HSET', KEYS[1], 'holder', holder, 'until', now + ARGV[5])
return {'begun', token, ''}
