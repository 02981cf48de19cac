#!lua flags=allow-oom
-- nack: a delivery ends without acknowledgement and waits for its next attempt (R20).
-- KEYS[1..6] see _fetch.lua   KEYS[7..8] see _delivery.lua   KEYS[9..10] see _letter.lua
-- KEYS[11] arrived HASH
-- ARGV[1..4] see _fetch.lua   ARGV[5..7] see _delivery.lua
-- ARGV[8] nonce; '' means whoever holds it, if that lease is over: that counts unless the
-- right was handed over in an answer which, for all that is known, never came
-- ARGV[9] 1 if the attempt failed, 0 if it was handed back   ARGV[10] delay ms
-- ARGV[11] failures at most   ARGV[12] reason
-- Returns 'waiting', 'dead', or 'stale' if the delivery is not so held.
--@include _fetch
--@include _delivery
--@include _letter
local status, failures, attempt, holder, consumer = read_delivery()
local failed = ARGV[9] == '1'
if status ~= 'held' then
  local repeated = ARGV[8] ~= '' and holder == ARGV[8]
  return repeated and (status == 'waiting' or status == 'dead') and status or 'stale'
end
if ARGV[8] == '' then
  local deadline = redis.call('ZSCORE', leases, delivery)
  if deadline and tonumber(deadline) > now then
    return 'stale'
  end
  local call = tonumber(string.match(holder, '%-(%d+)$'))
  failed = failed and not (call and call > tonumber(redis.call('HGET', KEYS[11], consumer) or 0))
elseif holder ~= ARGV[8] then
  return 'stale'
end
failures = failures + (failed and 1 or 0)
if failed then
  redis.call('HINCRBY', scope, 'attempts:failed', 1)
end
remember(attempt, consumer, failed, ARGV[12])
note(failed and 'failed' or 'handed-back', event, subscriber, attempt,
  string.sub(ARGV[12], 1, 200))
redis.call('ZREM', leases, delivery)
if failures >= tonumber(ARGV[11]) then
  write_delivery('dead', failures, attempt, holder, consumer)
  write_letter('failed', failures, ARGV[12])
  redis.call('HINCRBY', scope, 'deliveries:dead', 1)
  redis.call('XACK', stream, subscriber, entry)
  return 'dead'
end
write_delivery('waiting', failures, attempt, holder, consumer)
redis.call('ZADD', due, now + tonumber(ARGV[10]), delivery)
disown()
return 'waiting'
