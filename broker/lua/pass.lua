#!lua flags=allow-oom
-- pass: may leases that ran out be taken over now? (R15)
-- KEYS[1] reclaim HASH   ARGV[1] server run id   ARGV[2] lease ms   ARGV[3] field prefix
-- Returns 0, or the ms of grace that still has to pass: nobody could renew a lease
-- while no pass was made, the clock stepped back, or the server was another.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local lease, p = tonumber(ARGV[2]), ARGV[3]
local last = redis.call('HMGET', KEYS[1], p .. 'time', p .. 'run_id', p .. 'grace_until')
local gap = now - tonumber(last[1] or 0)
local until_ms = tonumber(last[3] or 0)
if gap < 0 or gap > lease / 2 or last[2] ~= ARGV[1] then
  until_ms = now + lease
end
redis.call('HSET', KEYS[1], p .. 'time', now, p .. 'run_id', ARGV[1], p .. 'grace_until', until_ms)
return math.max(0, until_ms - now)
