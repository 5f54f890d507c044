-- Publishes a message to one channel of a process, unless the channel's unread messages have reached its capacity.
-- KEYS: the hash of unread counts. ARGV: the channel, its capacity, expiry in ms, the process's inbox, the payload.
-- Returns 0 if the channel is full, otherwise 1.
local unread, channel, capacity, expiry = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if (tonumber(redis.call('HGET', unread, channel)) or 0) >= capacity then
  return 0
end
-- If nobody is subscribed to the inbox, its process is gone, and nothing is unread there either.
if redis.call('PUBLISH', ARGV[4], ARGV[5]) > 0 then
  redis.call('HINCRBY', unread, channel, 1)
  -- Messages older than this are never delivered, so the counts of a process that died may expire with them.
  redis.call('PEXPIRE', unread, expiry)
end
return 1
