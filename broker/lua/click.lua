#!lua
-- click: people clicked the displays of some fetches; publish a click event of each.
-- KEYS[1..6] see _fetch.lua: of the first
-- KEYS[7..] three keys for each: fetch HASH, events HASH, tokens HASH
-- ARGV[1..4] see _fetch.lua   ARGV[5..] a call token for each
-- Returns the events' names, the same for the same token (R23); '' if there is no such
-- fetch (R25), or its scope is removed.
--@include _fetch
local function click(tokens, token)
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
  return event
end

local names = {}
for i = 7, #KEYS, 3 do
  fetch, events = KEYS[i], KEYS[i + 1]
  names[#names + 1] = click(KEYS[i + 2], ARGV[5 + (i - 7) / 3])
end
return names
