-- Writes how many slots of a room a process holds, and grants further slots as far as they are free.
-- Slots of processes whose lease has ended do not count and are removed.
-- KEYS: the room's hash of slots by process.
-- ARGV: 1. this process, 2. how many slots it holds, 3. how many more it wants, 4. the room's limit,
-- 5. the prefix of lease names, 6. how many more it wants that may not come out of the reserve,
-- 7. the reserve: how many of the last slots are kept from these.
-- Returns how many of 3. and of 6. are granted, and how many slots all processes hold then.
local others = 0
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if all[i] ~= ARGV[1] then
    if redis.call('EXISTS', ARGV[5] .. all[i]) == 1 then
      others = others + (tonumber(all[i + 1]) or 0)
    else
      redis.call('HDEL', KEYS[1], all[i])
    end
  end
end
local held = tonumber(ARGV[2])
local got = math.max(0, math.min(tonumber(ARGV[3]), tonumber(ARGV[4]) - others - held))
local free = tonumber(ARGV[4]) - tonumber(ARGV[7]) - others - held - got
local more = math.max(0, math.min(tonumber(ARGV[6]), free))
if held + got + more > 0 then
  redis.call('HSET', KEYS[1], ARGV[1], held + got + more)
  redis.call('EXPIRE', KEYS[1], 86400)
else
  redis.call('HDEL', KEYS[1], ARGV[1])
end
return {got, more, others + held + got + more}
