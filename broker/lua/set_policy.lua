#!lua
-- set_policy: the rules for the next fetches of a scope.
-- KEYS[1] scope HASH   KEYS[2] scopes SET
-- ARGV[1] scope   ARGV[2] policy, '' for no rules   ARGV[3] quota in bytes, 0 for none
-- Returns 1; 0 if the scope is being removed.
if redis.call('HEXISTS', KEYS[1], 'removing') == 1 then
  return 0
end
redis.call('HSET', KEYS[1], 'policy', ARGV[2], 'quota', ARGV[3])
redis.call('SADD', KEYS[2], ARGV[1])
return 1
