#!lua flags=allow-oom
-- ack: the handlers' promises have settled; so have these deliveries (§ waitUntil, R10).
-- KEYS[1..6] see _fetch.lua   KEYS[7..8] see _delivery.lua   KEYS[9..] see _each.lua
-- ARGV[1..4] see _fetch.lua   ARGV[5..7] see _delivery.lua: the first delivery
-- ARGV[8..] three values for each: event, delivery, nonce
-- Returns for each 1 if it was held under its nonce, also on a repetition; else 0.
--@include _fetch
--@include _delivery
--@include _each
return each(9, 8, 3, function(nonce)
  local record, status, failures, attempt, holder, consumer = read_both()
  if holder ~= nonce or (status ~= 'held' and status ~= 'acked') then
    return 0
  end
  if status == 'held' then
    settle_delivery(record, 'acked', failures, attempt, holder, consumer)
  end
  return 1
end)
