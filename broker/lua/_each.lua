-- Included after _delivery.lua by scripts about many deliveries of one subscriber: the
-- names that those files give to one delivery and its fetch are given to each in turn.
-- What is the scope's or the subscriber's is the same for all.

-- Behind keys[from] two keys for each: fetch HASH, events HASH. Behind values[from]
-- `width` for each: event, delivery, and what else is handed to `act`. Returns what
-- `act` returned for each.
local function each(first_key, first_value, width, act)
  local answers, at = {}, first_value
  local scope_name = string.match(member, '^[^/]+')
  for key = first_key, #KEYS, 2 do
    fetch, events = KEYS[key], KEYS[key + 1]
    event, delivery = ARGV[at], ARGV[at + 1]
    field = event .. '|' .. subscriber
    local first, uid = string.match(delivery, '^([^/]+)/([^/]+)')
    entry, member = first, scope_name .. '/' .. uid
    answers[#answers + 1] = act(unpack(ARGV, at + 2, at + width - 1))
    at = at + width
  end
  leave_sets()
  return answers
end
