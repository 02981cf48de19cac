#!lua flags=allow-oom
-- pause: nothing new begins at a subscriber, or everything does again.
-- KEYS[1] subscribers HASH   KEYS[2] subscriber's state HASH
-- ARGV[1] subscriber   ARGV[2] 1 to pause, 0 to resume
-- Returns 1, also if that is how it was; 0 if there is no such subscriber.
--@include _filter
--@include _membership
if not is_member(memberships(redis.call('HGET', KEYS[1], ARGV[1]))) then
  return 0
end
if ARGV[2] == '1' then
  redis.call('HSETNX', KEYS[2], 'paused', redis.call('TIME')[1] * 1000)
else
  redis.call('HDEL', KEYS[2], 'paused')
end
return 1
