-- Included by _fetch.lua: the lists of fetches in which this one stands, for people who
-- look for one among very many. The script that changes its state changes them, so that
-- nobody ever has to search all keys.
-- A list is a ZSET in the order of registration; each there is twice: for the scope, uid
-- -> seq, and for all scopes but ours, member -> us. One has every retained fetch; of the others,
-- whose names end in a state (schemas.queries.ListedState), a fetch is in that of its
-- state, and in 'awaiting' while it has ended and its records are held.
-- So that a script need not carry all fourteen, their names are made from KEYS[3] and
-- KEYS[4] here, as broker/keys.py has them.
local own_list = scope .. ':fetches'
local common_list = string.gsub(agenda, '[^:]+$', 'fetches')
local is_ours = string.sub(member, 1, 8) == 'bgfetch.'

-- seq, us: its place in the lists of the scope, and in those of all scopes. Nobody
-- registers two fetches in one microsecond.
local function enlist(list, seq, us)
  redis.call('ZADD', own_list .. list, seq, string.match(member, '[^/]+$'))
  if not is_ours then
    redis.call('ZADD', common_list .. list, us, member)
  end
end

local function unlist(list)
  redis.call('ZREM', own_list .. list, string.match(member, '[^/]+$'))
  redis.call('ZREM', common_list .. list, member)
end

-- Its state has changed: it leaves one list and enters another. Returns its us.
local function relist(seq, from, to)
  local us = redis.call('ZSCORE', common_list, member)
    or 1000 * redis.call('HGET', fetch, 'createdAt')
  unlist(from)
  enlist(to, seq, us)
  return us
end

-- It is not retained any longer.
local function unlist_everywhere()
  for _, list in ipairs({'', ':active', ':paused', ':success', ':failure', ':aborted', ':awaiting'}) do
    unlist(list)
  end
end
