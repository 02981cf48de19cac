-- Included after _fetch.lua by the scripts that note what happened to a fetch, for people.
-- The journal is a LIST of '<ms> <what> <words>', the newest that there is room for; its
-- name is made here from KEYS[1], as broker/keys.py has it.
local JOURNAL = 200
local function note(what, ...)
  local line = table.concat({string.format('%d', now), what, ...}, ' ')
  if redis.call('RPUSH', fetch .. ':journal', line) > JOURNAL + 50 then
    redis.call('LTRIM', fetch .. ':journal', -JOURNAL, -1)
  end
end
