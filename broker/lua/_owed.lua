-- Included where it matters who is owed an event (R11, R12).
-- membership: what the subscribers HASH says of one: <joined> <left or ->
-- record: version and owed of the event, as read_event returns them. An event published
-- to nobody belongs to the first
-- subscriber that came.
local function is_owed(membership, record)
  local joined, left = string.match(membership or '', '^(%d+) (%S+)$')
  if not joined then
    return false
  end
  local version = record.version
  if record.owed == 0 and tonumber(joined) == version + 1 then
    version = version + 1
  end
  return tonumber(joined) <= version and (left == '-' or tonumber(left) > version)
end
