#!lua flags=allow-oom
-- window: a click's listener asks for a window; each click opens one (§ openWindow).
-- KEYS[1] fetch HASH   KEYS[2] tokens HASH
-- ARGV[1] event   ARGV[2] url   ARGV[3] clients channel   ARGV[4] message
-- ARGV[5] channel of the gateway that has the clicking client, or ''; where nobody hears
-- it, the message is for all clients
-- Returns 1, also when the same window is asked for again by a redelivery (R25); 0 if
-- this click opened another, or the fetch is gone.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
local field = 'window:' .. ARGV[1]
local opened = redis.call('HGET', KEYS[2], field)
if opened then
  return opened == ARGV[2] and 1 or 0
end
redis.call('HSET', KEYS[2], field, ARGV[2])
if ARGV[5] == '' or redis.call('PUBLISH', ARGV[5], ARGV[4]) == 0 then
  redis.call('PUBLISH', ARGV[3], ARGV[4])
end
return 1
