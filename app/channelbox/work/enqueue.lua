-- Appends entries to a list of a worker channel: all of them, or none.
-- KEYS: the list. ARGV: capacity in entries, capacity in bytes, expiry in ms, then the entries.
-- Returns {1 if the entries were appended, else 0; number of expired entries that were dropped}.
-- Each entry is prefixed with 13 digits: the time when it expires, in ms. It is taken from Redis' own clock, because
-- the clocks of nodes may differ.
local list, capacity, bytes, expiry = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local entries = #ARGV - 3
local length = redis.call('LLEN', list)
local dropped = 0

-- While no worker runs, expired entries must neither keep out batches that are sent again nor stay in memory with them.
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

-- SAMPLES 0 counts all nodes of the list: by default Redis samples five and assumes that the others are as large.
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
-- A queue that is no longer read or written expires by itself.
redis.call('PEXPIRE', list, expiry + 60000)
return {1, dropped}
