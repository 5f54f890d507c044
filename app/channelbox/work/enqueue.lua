-- Puts entries on a worker channel's list, all of them or none.
-- KEYS: the list. ARGV: capacity, expiry in ms, then the entries.
-- Returns whether they were taken, and how many expired ones were dropped to make room.
-- Each entry gets the time when it expires, in ms of Redis' own clock and 13 digits: nodes' clocks may differ.
local list, capacity, expiry = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local entries = #ARGV - 2
local length = redis.call('LLEN', list)
local dropped = 0

-- While no worker runs, what has expired must not keep out what is sent again.
while length > 0 and length + entries > capacity do
  local expires = tonumber(string.sub(redis.call('LINDEX', list, 0), 1, 13)) or 0
  if expires >= now then
    return {0, dropped}
  end
  redis.call('LPOP', list)
  length = length - 1
  dropped = dropped + 1
end
if entries > capacity then
  return {0, dropped}
end

local expires = string.format('%013.0f', now + expiry)
for index = 3, #ARGV do
  redis.call('RPUSH', list, expires .. ARGV[index])
end
-- A queue that nobody reads or writes any more goes away by itself.
redis.call('PEXPIRE', list, expiry + 60000)
return {1, dropped}
