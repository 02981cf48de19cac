#!lua flags=allow-oom
-- ack: the handler's promises have settled; so has this delivery (§ waitUntil, R10).
-- KEYS[1..6] see _fetch.lua   KEYS[7..8] see _delivery.lua
-- ARGV[1..4] see _fetch.lua   ARGV[5..7] see _delivery.lua   ARGV[8] nonce
-- Returns 1 if the delivery was held under this nonce, also on a repetition; else 0.
--@include _fetch
--@include _delivery
local status, failures, attempt, holder, consumer = read_delivery()
if holder ~= ARGV[8] or (status ~= 'held' and status ~= 'acked') then
  return 0
end
if status == 'acked' then
  return 1
end
settle_delivery('acked', failures, attempt, holder, consumer)
return 1
