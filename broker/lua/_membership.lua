-- Included, after _filter.lua, where it matters who is owed an event (R11, R12, R21).
-- The subscribers HASH says of each one, the newest first and a line each, of which
-- versions of the set it was a member, and with which filter:
--   <joined> <left>@<ms of the stream's last entry then>, or - <from or -> <types> <ids>
-- from: ms from which events count that are older than the membership; they are delivered,
-- not owed. A line 'removed' before all says that somebody took it out.
local function memberships(text)
  local found = {}
  for joined, left, from, types, ids in
    string.gmatch(text or '', '(%d+) (%S+) (%S+) (%S+) ([^\n]+)')
  do
    local version, at = string.match(left, '^(%d+)@(%d+)$')
    found[#found + 1] = {
      joined = tonumber(joined), left = tonumber(version), at = tonumber(at),
      from = tonumber(from), types = types, ids = ids,
    }
  end
  found.removed = string.sub(text or '', 1, 7) == 'removed'
  return found
end

local function is_member(of)
  return #of > 0 and not of[1].left and not of.removed
end

-- record: as parse_event returns it. What was published to an empty set belongs to the
-- first subscriber that came.
local function is_owed(of, record, event, id)
  local version = record.version
  for _, one in ipairs(of) do
    local adopts = record.open and one.joined == version + 1
    if adopts or (one.joined <= version and (not one.left or one.left > version)) then
      return matches(one.types, one.ids, event, id)
    end
  end
  return false
end

-- Is this older than the subscriber, and asked for all the same when it joined?
local function is_wanted(of, version, entry, event, id)
  local first = of[#of]
  return first ~= nil and first.from ~= nil and version < first.joined
    and tonumber(string.match(entry, '^%d+')) >= first.from
    and matches(first.types, first.ids, event, id)
end
