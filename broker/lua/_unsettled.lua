-- Included after _membership.lua by the scripts that ask who has not settled.
-- Some deliveries of this fetch that nobody has settled, clicks among them; two values for
-- each, delivery and subscriber.
local function unsettled(subscribers)
  local open, members = {}, redis.call('HGETALL', subscribers)
  local all, name = redis.call('HGETALL', events), redis.call('HMGET', fetch, 'uid', 'id')
  local status, of = {}, {}
  for j = 1, #members, 2 do
    of[members[j]] = memberships(members[j + 1])
  end
  for i = 1, #all, 2 do
    status[all[i]] = string.match(all[i + 1], '^%S+')
  end
  for i = 1, #all, 2 do
    local is_event = not string.find(all[i], '|', 1, true)
    local record = is_event and parse_event(all[i + 1])
    if is_event then
      for subscriber, theirs in pairs(of) do
        local now_is = status[all[i] .. '|' .. subscriber]
        local ended = now_is ~= 'held' and now_is ~= 'waiting' and now_is ~= 'dead'
        if now_is == nil then
          ended = record.settled >= record.owed or not is_owed(theirs, record, all[i], name[2])
        end
        if not ended then
          open[#open + 1] = record.entry .. '/' .. name[1] .. '/' .. all[i]
          open[#open + 1] = subscriber
          if #open >= 200 then
            return open
          end
        end
      end
    end
  end
  return open
end
