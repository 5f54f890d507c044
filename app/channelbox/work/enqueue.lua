-- Puts entries on a worker channel's list, all of them or none.
-- KEYS: the list. ARGV: capacity in entries, capacity in bytes, expiry in ms, then the entries.
-- Returns whether they were taken, and how many expired ones were dropped.
-- Each entry gets the time when it expires, in ms of Redis' own clock and 13 digits: nodes' clocks may differ.
local list, capacity, bytes, expiry = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local entries = #ARGV - 3
local length = redis.call('LLEN', list)
local dropped = 0

-- While no worker runs, what has expired must not keep out what is sent again, nor stay in memory beside it.
while length > 0 do
  local expires = tonumber(string.sub(redis.call('LINDEX', list, 0), 1, 13)) or 0
  if expires >= now then
    break
  end
  redis.call('LPOP', list)
  length = length - 1
  dropped = dropped + 1
end
if length + entries > capacity then
  return {0, dropped}
end

-- All nodes of the list are counted: by default Redis looks at five, and takes the others to be as large.
local held = length > 0 and redis.call('MEMORY', 'USAGE', list, 'SAMPLES', 0) or 0
for index = 4, #ARGV do
  held = held + #ARGV[index]
end
if held > bytes then
  return {0, dropped}
end

local expires = string.format('%013.0f', now + expiry)
for index = 4, #ARGV do
  redis.call('RPUSH', list, expires .. ARGV[index])
end
-- A queue that nobody reads or writes any more goes away by itself.
redis.call('PEXPIRE', list, expiry + 60000)
return {1, dropped}
