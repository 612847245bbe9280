-- Puts the live counters of a day under the names of another day, of another organisation, and marks that day for packing.
--
-- ARGV  what the names of the counters begin with, there and here; the key with the rest of the names (MessagePack); the day
--       there and here (2026-01-05); milliseconds between them; milliseconds that a series of days lives; the schedule, and the
--       organisation with the second at which it is due.

local there, here, names, from, to, shift, lives, schedule, org, due = unpack(ARGV)

local function moved(measure, number)
  return measure == 'last_ms' and string.format('%.0f', tonumber(number) + shift) or number
end

local function days(name)
  local found, set = redis.call('HGETALL', there .. name), {}
  for i = 1, #found, 2 do
    local day, measure = found[i]:match('^(%d%d) (.*)$')
    if day == from:sub(9) then
      set[#set + 1] = to:sub(9) .. ' ' .. measure
      set[#set + 1] = moved(measure, found[i + 1])
    end
  end
  local target = here .. 'series:1d:' .. to:sub(1, 7) .. name:sub(18)
  if set[1] then
    redis.call('HSET', target, unpack(set))
    redis.call('PEXPIRE', target, lives)
  end
end

local function half_hours(target)
  local found, set = redis.call('HGETALL', target), {}
  for i = 1, #found, 2 do
    local measure = found[i]:match(' (.*)$')
    if measure == 'last_ms' then
      set[#set + 1] = found[i]
      set[#set + 1] = moved(measure, found[i + 1])
    end
  end
  if set[1] then redis.call('HSET', target, unpack(set)) end
end

for _, name in ipairs(cmsgpack.unpack(redis.call('GET', names))) do
  if name:sub(1, 10) == 'series:1d:' then
    days(name)
  else
    local at = name:find(from, 1, true)
    local target = here .. name:sub(1, at - 1) .. to .. name:sub(at + 10)
    redis.call('COPY', there .. name, target)
    if name:sub(1, 7) == 'series:' then half_hours(target) end
  end
end

redis.call('ZADD', here .. 'history:todo', 1, '30m ' .. to, 1, '1d ' .. to)
redis.call('ZADD', schedule, 'LT', due, org)
