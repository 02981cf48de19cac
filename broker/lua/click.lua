#!lua
-- click: a person clicked the fetch's display; publish a click event.
-- KEYS[1..6] see _fetch.lua   KEYS[7] tokens HASH
-- ARGV[1..4] see _fetch.lua   ARGV[5] call token
-- Returns the event's name, the same for the same token (R23); '' if there is no such
-- fetch (R25).
--@include _fetch
local event = redis.call('HGET', KEYS[7], ARGV[5])
if event then
  return event
end
local state, last = snapshot()
if not state.uid then
  return ''
end
event = 'backgroundfetchclick.' .. redis.call('HINCRBY', fetch, 'clicks', 1)
redis.call('HSET', KEYS[7], ARGV[5], event)
publish('backgroundfetchclick', event, state, last)
return event
