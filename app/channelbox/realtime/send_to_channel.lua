-- Publishes to one channel of a process, unless as many messages wait there unread as it may hold.
-- KEYS: the hash of unread counts. ARGV: the channel, its capacity, expiry in ms, the inbox, the payload.
-- Returns whether it was published.
local unread, channel, capacity, expiry = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if (tonumber(redis.call('HGET', unread, channel)) or 0) >= capacity then
  return 0
end
-- No one hears an inbox whose process is gone: then nothing is unread there either.
if redis.call('PUBLISH', ARGV[4], ARGV[5]) > 0 then
  redis.call('HINCRBY', unread, channel, 1)
  -- What is older than this is not given to anybody, so counts that a dead process left behind may go.
  redis.call('PEXPIRE', unread, expiry)
end
return 1
