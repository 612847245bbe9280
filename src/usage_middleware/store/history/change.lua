-- Changes a month of the history, and the live counters with it, wholly or not at all: what was read must still be so.
--
-- KEYS[1]  the month. Each change raises its field `v`.
-- KEYS[2]  `history:todo`: day -> how many chunks have written it since it was packed.
-- KEYS[3]  a key that never exists: while the slot moves to another node, Redis then answers TRYAGAIN.
-- KEYS[4]  and on: live counters, those that are removed first.
-- ARGV[1]  MessagePack {version, {{member of todo, its score}, ...}, milliseconds that the month lives, milliseconds that todo
--          lives, {member of a day that is done, ...}, fields to write, fields to remove, how many live keys are removed,
--          {{live key, {field, ...}}, ...}, {{live key, is a hash, names, numbers, greatest, milliseconds}, ...},
--          {{series, {field, ...}, {number or '', ...}, corrections, how many}, ...}}
-- ARGV[2]  and on: what is written to the fields.
--
-- Answers  'OK', or 'AGAIN': something has changed since it was read; nothing was changed now.

local MANY = 500

local version, todos, lives, todo_lives, done, written, removed, taken, cleared, added, witnesses = unpack(cmsgpack.unpack(ARGV[1]))

if tonumber(redis.call('HGET', KEYS[1], 'v') or 0) ~= version then return 'AGAIN' end
for _, todo in ipairs(todos) do
  if tonumber(redis.call('ZSCORE', KEYS[2], todo[1]) or 0) ~= todo[2] then return 'AGAIN' end
end

-- An older version writes without a mark.
for _, witness in ipairs(witnesses) do
  local series, fields, numbers, corrections, corrected = unpack(witness)
  for i, number in ipairs(redis.call('HMGET', series, unpack(fields))) do
    if (number or '') ~= numbers[i] then return 'AGAIN' end
  end
  if redis.call('HLEN', corrections) ~= corrected then return 'AGAIN' end
end

-- What adds live counters takes memory: Redis refuses it here if there is none.
if added[1] then redis.call('HINCRBY', KEYS[1], 'v', 0) end
-- Rights that are missing are missed here, before anything is changed. Of a script that has removed something, Redis refuses
-- nothing more for want of memory: packing makes room.
redis.call('UNLINK', KEYS[3])
redis.call('HDEL', KEYS[3], '0')
redis.call('ZREM', KEYS[3], '0')

local function milliseconds(value)
  return string.format('%.0f', value)
end

local set = {}
for i, field in ipairs(written) do
  set[2 * i - 1], set[2 * i] = field, ARGV[i + 1]
end
if set[1] then redis.call('HSET', KEYS[1], unpack(set)) end
if set[1] or removed[1] then
  redis.call('HINCRBY', KEYS[1], 'v', 1)
  redis.call('PEXPIRE', KEYS[1], milliseconds(lives))
end

for first = 1, #removed, MANY do
  redis.call('HDEL', KEYS[1], unpack(removed, first, math.min(first + MANY - 1, #removed)))
end
for first = 4, 3 + taken, MANY do
  redis.call('UNLINK', unpack(KEYS, first, math.min(first + MANY - 1, 3 + taken)))
end
for _, one in ipairs(cleared) do
  for first = 1, #one[2], MANY do
    redis.call('HDEL', one[1], unpack(one[2], first, math.min(first + MANY - 1, #one[2])))
  end
end

-- A number that a Lua number can't hold comes as text, and is added as it is.
for _, one in ipairs(added) do
  local key, is_hash, names, numbers, greatest, left = unpack(one)
  for i, name in ipairs(names) do
    if not is_hash then
      redis.call('ZINCRBY', key, numbers[i], name)
    elseif i < greatest then
      redis.call('HINCRBY', key, name, numbers[i])
    elseif tonumber(redis.call('HGET', key, name) or 0) < tonumber(numbers[i]) then
      redis.call('HSET', key, name, numbers[i])
    end
  end
  if redis.call('TTL', key) < 0 then redis.call('PEXPIRE', key, milliseconds(left)) end
end

for _, member in ipairs(done) do
  redis.call('ZREM', KEYS[2], member)
end
if todos[1] and redis.call('EXISTS', KEYS[2]) == 1 then redis.call('PEXPIRE', KEYS[2], milliseconds(todo_lives)) end
return 'OK'
