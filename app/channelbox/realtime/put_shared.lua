-- Appends a message to the list of a channel that any process may receive from, unless the list is at capacity.
-- At capacity, expired messages at the front of the list are removed first.
-- KEYS: the list. ARGV: capacity, expiry in ms, the message.
-- Returns 1 if the message was added, otherwise 0, and the number of expired messages that were removed.
-- Each entry begins with its expiry time: 13 digits, in ms of Redis' clock, because the nodes' clocks may differ.
local list, capacity, expiry = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local length, dropped = redis.call('LLEN', list), 0
while length > 0 and length >= capacity and (tonumber(string.sub(redis.call('LINDEX', list, 0), 1, 13)) or 0) < now do
  redis.call('LPOP', list)
  length, dropped = length - 1, dropped + 1
end
if length >= capacity then
  return {0, dropped}
end
redis.call('RPUSH', list, string.format('%013.0f', now + expiry) .. ARGV[3])
redis.call('PEXPIRE', list, expiry)
return {1, dropped}
