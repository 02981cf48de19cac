-- Included where filters decide which events somebody takes (R21). A filter is two
-- words: types separated by commas, or *; and a pattern for the fetch's id, in which *
-- stands for any bytes, also none, and all else for itself.

-- The pieces between the stars are looked for from left to right, each once and never
-- again: no pattern makes this slow.
local function id_matches(pattern, id)
  local first, rest = string.match(pattern, '^([^*]*)(.*)$')
  if rest == '' then
    return id == pattern
  end
  local last = string.match(pattern, '^.*%*(.*)$')
  if string.sub(id, 1, #first) ~= first then
    return false
  end
  local at = #first + 1
  for piece in string.gmatch(string.sub(rest, 1, #rest - #last), '[^*]+') do
    local _, stop = string.find(id, piece, at, true)
    if not stop then
      return false
    end
    at = stop + 1
  end
  return #id - #last + 1 >= at and string.sub(id, #id - #last + 1) == last
end

-- event: its name within its fetch, which begins with its type.
local function matches(types, ids, event, id)
  local type = string.match(event, '^[^.]*')
  return (types == '*' or string.find(',' .. types .. ',', ',' .. type .. ',', 1, true) ~= nil)
    and (ids == '*' or id_matches(ids, id))
end
