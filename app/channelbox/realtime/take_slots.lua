-- Writes how many places in a room a process holds, and gives it as many more as it wants and as are free.
-- KEYS: the room's places. ARGV: this process, the places it holds, how many more it wants, the limit, lease prefix, how
-- many more it wants that do not get the last places, how many of those there are.
-- Returns how many of either it gets, and how many are taken by all processes.
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
