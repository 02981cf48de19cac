#!lua flags=allow-oom
-- step: was this step of a delivery's handler done before; or, now it is (R10).
-- KEYS[1..6] see _fetch.lua   KEYS[7..8] see _delivery.lua
-- ARGV[1..4] see _fetch.lua   ARGV[5..7] see _delivery.lua
-- ARGV[8] nonce   ARGV[9] step   ARGV[10] 1 to write down that it is done
-- Returns 'stale' if the delivery is not held under this nonce; 'done' if the step is,
-- also on a repetition; else 'open'. The mark lives as long as the fetch is retained.
--@include _fetch
--@include _delivery
local status, _, attempt, holder = read_delivery()
if status ~= 'held' or holder ~= ARGV[8] then
  return 'stale'
end
local mark = field .. '|once|' .. ARGV[9]
if ARGV[10] == '1' then
  redis.call('HSETNX', events, mark, attempt .. ' ' .. now)
end
return redis.call('HEXISTS', events, mark) == 1 and 'done' or 'open'
