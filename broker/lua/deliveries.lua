#!lua flags=allow-oom
-- deliveries: how the events of a fetch stand at each subscriber; changes nothing.
-- KEYS[1..6] see _fetch.lua   KEYS[7] subscribers HASH
-- ARGV[1..4] see _fetch.lua   ARGV[5] how many at most
-- Returns four values for each delivery that began, or that is owed and has not: event,
-- its entry, subscriber, and what is written of it, see broker/keys.py; '' if it is new.
--@include _fetch
--@include _membership
local all, members = redis.call('HGETALL', events), redis.call('HGETALL', KEYS[7])
local id, limit = redis.call('HGET', fetch, 'id') or '', 4 * tonumber(ARGV[5])
local records, began, rows = {}, {}, {}
for i = 1, #all, 2 do
  if not string.find(all[i], '|', 1, true) then
    records[all[i]] = parse_event(all[i + 1])
  end
end

local function tell(event, subscriber, value)
  for _, part in ipairs({event, records[event].entry, subscriber, value}) do
    rows[#rows + 1] = part
  end
end

for i = 1, #all, 2 do
  local event, subscriber = string.match(all[i], '^([^|]+)|([^|]+)$')
  if event and records[event] and #rows < limit then
    began[all[i]] = true
    tell(event, subscriber, all[i + 1])
  end
end
for j = 1, #members, 2 do
  local of = memberships(members[j + 1])
  for event, record in pairs(records) do
    local is_new = not began[event .. '|' .. members[j]] and record.settled < record.owed
    if is_new and #rows < limit and is_owed(of, record, event, id) then
      tell(event, members[j], '')
    end
  end
end
return rows
