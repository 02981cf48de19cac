#!lua flags=allow-oom
-- present: change how a fetch is shown; nothing else of it changes (BF-UPD-08).
-- KEYS[1..6] see _fetch.lua   ARGV[1..4] see _fetch.lua
-- ARGV[5..] fields and values: title, icons
-- Returns 1, or 0 if there is no such fetch.
--@include _fetch
if redis.call('EXISTS', fetch) == 0 then
  return 0
end
for i = 5, #ARGV, 2 do
  redis.call('HSET', fetch, ARGV[i], ARGV[i + 1])
end
announce()
return 1
