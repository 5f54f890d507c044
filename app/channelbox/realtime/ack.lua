-- Subtracts messages that were received or have expired from the unread counts of a process's channels.
-- KEYS: the hash of unread counts. ARGV: pairs of a channel and a number of messages.
for index = 1, #ARGV, 2 do
  if redis.call('HINCRBY', KEYS[1], ARGV[index], -tonumber(ARGV[index + 1])) <= 0 then
    redis.call('HDEL', KEYS[1], ARGV[index])
  end
end
return 1
