-- Included, after _membership.lua, by scripts that change the scope's set (R11).
-- KEYS[1] scope HASH   KEYS[2] subscribers HASH   KEYS[3] event STREAM
local scope, subscribers, stream = KEYS[1], KEYS[2], KEYS[3]

local function line(one)
  local left = one.left and one.left .. '@' .. one.at or '-'
  return table.concat({one.joined, left, one.from or '-', one.types, one.ids}, ' ')
end

local function write(subscriber, of)
  local lines = {of.removed and 'removed' or nil}
  for _, one in ipairs(of) do
    lines[#lines + 1] = line(one)
  end
  redis.call('HSET', subscribers, subscriber, table.concat(lines, '\n'))
end

-- Publications count by filter, not by subscriber: <number> <types> <ids>, a line each.
local function count(one, change)
  redis.call('HINCRBY', scope, 'subscribers', change)
  if one.types == '*' and one.ids == '*' then
    return
  end
  local lines, found = {}, 0
  local text = redis.call('HGET', scope, 'filters') or ''
  for number, types, ids in string.gmatch(text, '(%d+) (%S+) ([^\n]+)') do
    if types == one.types and ids == one.ids then
      found = tonumber(number)
    else
      lines[#lines + 1] = number .. ' ' .. types .. ' ' .. ids
    end
  end
  if found + change > 0 then
    lines[#lines + 1] = found + change .. ' ' .. one.types .. ' ' .. one.ids
  end
  if #lines == 0 then
    redis.call('HDEL', scope, 'filters')
  else
    redis.call('HSET', scope, 'filters', table.concat(lines, '\n'))
  end
end

-- Entries are looked at only while they are there: what no entry can need is forgotten.
local function forget_ended(of)
  local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  local from = oldest and tonumber(string.match(oldest[1], '^%d+')) or math.huge
  while #of > 0 and of[#of].left and of[#of].at < from do
    of[#of] = nil
  end
end

-- Was nothing published since the filter changed last? Then that line says nothing.
local function is_unused(of)
  local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  local version = not newest and -1 or tonumber(newest[2][8])
  return #of > 1 and of[2].left == of[1].joined and version and version < of[1].joined
end

local function enter(of, version, from, types, ids)
  forget_ended(of)
  table.insert(of, 1, {joined = version, from = from, types = types, ids = ids})
  count(of[1], 1)
end

local function depart(of, version)
  local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  of[1].left = version
  of[1].at = newest and tonumber(string.match(newest[1], '^%d+')) or 0
  count(of[1], -1)
end
