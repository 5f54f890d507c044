-- Takes messages that were received, or have expired, off the unread counts of a process's channels.
-- KEYS: the hash of unread counts. ARGV: a channel and a number, and so on.
for index = 1, #ARGV, 2 do
  if redis.call('HINCRBY', KEYS[1], ARGV[index], -tonumber(ARGV[index + 1])) <= 0 then
    redis.call('HDEL', KEYS[1], ARGV[index])
  end
end
return 1
