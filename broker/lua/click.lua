#!lua
-- click: people clicked the displays of some fetches; publish a click event of each.
-- KEYS[1..6] see _fetch.lua: of the first
-- KEYS[7..] three keys for each: fetch HASH, events HASH, tokens HASH
-- ARGV[1..4] see _fetch.lua   ARGV[5..] two values for each: a call token; who clicked,
-- if it is a client of a gateway, else '': the window that is opened is for it
-- Returns the events' names, the same for the same token (R23); '' if there is no such
-- fetch (R25), or its scope is removed.
--@include _fetch
local function click(tokens, token, client)
  local event = redis.call('HGET', tokens, token)
  if event then
    return event
  end
  local state, own = snapshot()
  if not state.uid or own.removed then
    return ''
  end
  local number = (own.clicks or 0) + 1
  event = 'backgroundfetchclick.' .. number
  if not publish('backgroundfetchclick', event, state, own, 'clicks', number) then
    return ''
  end
  redis.call('HSET', tokens, token, event)
  if client ~= '' then
    redis.call('HSET', tokens, 'client:' .. event, client)
  end
  return event
end

local names = {}
for i = 7, #KEYS, 3 do
  fetch, events = KEYS[i], KEYS[i + 1]
  local at = 5 + (i - 7) / 3 * 2
  names[#names + 1] = click(KEYS[i + 2], ARGV[at], ARGV[at + 1])
end
return names
