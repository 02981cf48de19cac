#!lua flags=allow-oom
-- begin: take the right to handle some deliveries (R10, R19).
-- KEYS[1..6] see _fetch.lua   KEYS[7..8] see _delivery.lua   KEYS[9..10] see _begin.lua
-- KEYS[11..] see _each.lua
-- ARGV[1..4] see _fetch.lua   ARGV[5..7] see _delivery.lua: the first delivery
-- ARGV[8..9] see _begin.lua
-- ARGV[10..] four values for each: event, delivery, nonce, version of the registration
-- that is known
-- Returns for each {'ok', attempt, failures, registration, or {} if it is the known one};
-- {'wait'} if the fetch's event before it has not begun here, then it is due again soon;
-- {'held'} while another holds it; {'paused'} if nothing begins, then it waits for
-- collect; {'done'} if it is settled, not for this subscriber, or its fetch is gone, then
-- it is acknowledged here.
--@include _fetch
--@include _delivery
--@include _membership
--@include _begin
--@include _each
local answers = each(11, 10, 4, begin)
lease_begun()
return answers
