#!lua flags=allow-oom
-- dismiss: some subscribers of a scope that is being removed, with all that is theirs.
-- KEYS[1] scope HASH   KEYS[2] subscribers HASH   KEYS[3] leaving SET
-- KEYS[4] presence ZSET   KEYS[5] reclaim HASH   KEYS[6] pulled SET
-- KEYS[7..] all keys of each
-- ARGV[1..] two values for each: subscriber, its member in the sets that span scopes
-- Returns 1; 0 if the scope is not being removed (any more).
if redis.call('HEXISTS', KEYS[1], 'removing') == 0 then
  return 0
end
redis.call('UNLINK', unpack(KEYS, 7))
for i = 1, #ARGV, 2 do
  local member = ARGV[i + 1]
  redis.call('HDEL', KEYS[2], ARGV[i])
  redis.call('SREM', KEYS[3], member)
  redis.call('ZREM', KEYS[4], member)
  redis.call('SREM', KEYS[6], member)
  redis.call('HDEL', KEYS[5], member .. '/time', member .. '/run_id', member .. '/grace_until')
end
return 1
