-- Adds one chunk of calls to an organisation's counters: wholly, and once however often it is sent.
--
-- KEYS[1]  `applied:<worker>`: the number of this worker's last chunk, its mark.
-- KEYS[2]  a key that never exists: while the slot moves to another node, Redis then answers TRYAGAIN instead of running
--          this on a node that has only half of the keys.
-- KEYS[3]  `marked`: worker -> the day of its last chunk. It lives as long as the organisation's counters. If it has a worker
--          that has no mark, the mark was lost alone.
-- KEYS[4]  `applied:<worker>:parts`: a chunk that came in parts, see ARGV[2].
-- ARGV[1]  MessagePack, see `payload.encode_chunk`:
--          {3, number, previous, now_ms, applied_seconds, registry, series, boards, worker, marked_seconds, doubt, sealed, once}
--          doubt: 0 if this number was never sent; 1 if it was, without an answer; 2 if that was so long ago that the mark
--          may have expired since.
--          sealed: the greatest number that this worker has given here: a mark that is greater is damaged.
--          once: of a correction or of backfilled rows, in place of a number: {keys that may have one of their ids,
--          {{key that keeps them, expire_at, limit, ids, records}, ...}, only try, may take away,
--          {{month of the history, its version}, ...}}. KEYS[1] is then such a key.
-- ARGV[2]  if ARGV[1] is empty: the SHA-1 of what KEYS[4] holds in its place.
--
-- Answers  {'OK', keys of another type}  counted
--          {'DONE', last}                 was counted before
--          {'GAP', last}                  numbers between `last` and this one are missing: send from there
--          {'UNSURE'}                     nobody knows whether it was counted before; nothing was counted now
--          {'FULL', {dimension, ...}, ..} these members are over the cap; nothing was counted
--          {'RETRY', error}               the server can't now; nothing was counted
--          {'KNOWN', {id, record}, ..}    these were counted before; nothing was counted now
--          {'BEYOND', text}               a counter would fall below 0, or not be exact; nothing was counted
--          {'AGAIN'}                      a month of the history was changed; nothing was counted
--          {'CROWDED', key}               this key has no room for more ids; nothing was counted

local EXACT = 9007199254740992 -- 2^53, up to which a Lua number is a whole one
local MOST_MARKED = 128 -- from so many workers on, those whose marks have expired are taken out of `marked`
local EXPIRED_DAYS = 9 -- after so many days a mark has expired, whatever the time of the day

local payload = ARGV[1]
if payload == '' then
  payload = redis.call('GET', KEYS[4]) or ''
  if redis.sha1hex(payload) ~= ARGV[2] then return {'RETRY', 'parts of the chunk are missing'} end
end
local layout, number, previous, now_ms, applied_seconds, registry, series, boards, worker, marked_seconds, doubt, sealed, once =
  unpack(cmsgpack.unpack(payload))
if layout ~= 3 or type(number) ~= 'number' or number < 1 or type(previous) ~= 'number' or type(doubt) ~= 'number'
  or type(sealed) ~= 'number' then
  return redis.error_reply('ERR this is not a chunk of usage')
end

local may_shrink = once and once[4]

local function integer(value)
  return string.format('%.0f', value)
end

-- The members of {dimension, key, expire_at, keep_ms, limit, capped, members, last_ms, reserved} for which there is no room.
local function refused(entry)
  local key, fresh, limit, capped, members = entry[2], now_ms - entry[4], entry[5], entry[6], entry[7]
  if capped == 0 then return nil end
  local known = redis.pcall('ZMSCORE', key, unpack(members, 1, capped))
  if known.err then return nil end
  local room
  local over = {entry[1]}
  for i = 1, capped do
    if not known[i] then
      if not room then
        room = limit - redis.call('ZCOUNT', key, integer(fresh), '+inf')
        if room < capped then
          for _, score in ipairs(redis.call('ZMSCORE', key, unpack(entry[9]))) do
            if score then room = room + 1 end
          end
        end
      end
      if room > 0 then room = room - 1 else over[#over + 1] = members[i] end
    end
  end
  return over[2] and over
end

local function over_the_caps()
  local answer = {'FULL'}
  for _, entry in ipairs(registry) do
    local over = refused(entry)
    if over then answer[#answer + 1] = over end
  end
  return answer[2] and answer
end

-- Leaves in entry.ttl what every key has left, or returns the error that keeps it from being written.
local function touch(entries, key_at)
  for _, entry in ipairs(entries) do
    local left = redis.pcall('TTL', entry[key_at])
    if type(left) == 'table' then return left.err end
    entry.ttl = left
  end
end

-- The commands that come after the claim, tried on one key of each kind: rights that are missing must be missed before it.
local NEEDED = {
  {'HMGET', 'HSET', 'HINCRBY', 'PEXPIRE', may_shrink and 'HDEL' or nil},
  {'ZMSCORE', 'ZADD', 'PEXPIRE', may_shrink and 'ZREMRANGEBYSCORE' or nil},
}

-- What this user may not do, where the server can tell (Redis 7, Valkey).
local function forbidden()
  if not redis.acl_check_cmd then return nil end
  for kind, entries in ipairs({series, boards}) do
    for _, command in ipairs(entries[1] and NEEDED[kind] or {}) do
      if not redis.acl_check_cmd(command, entries[1][1], '0', '0') then
        return 'NOPERM this user has no permissions to run ' .. command .. ' on ' .. entries[1][1]
      end
    end
  end
end

local wrong_type = 0

local function expire(key, at)
  redis.pcall('PEXPIRE', key, integer(at * 1000 - now_ms))
end

-- What a key held before; of one that `touch` did not find there is nothing to read.
local function read(command, entry)
  if entry.ttl == -2 then return {} end
  return entry.before or redis.pcall(command, entry[1], unpack(entry[3]))
end

-- What a correction has taken away wholly leaves no field of 0, which would look like a status that was seen.
local function drop_zeros(key, set)
  for i = 2, #set, 2 do
    if set[i] == 0 then redis.pcall('HDEL', key, set[i - 1]) end
  end
end

-- One HMGET and one HSET cost a third of an HINCRBY a field, here and in every replica and AOF. Redis gets numbers as they
-- are, where Lua holds them exactly: to make text of them costs as much again.
-- From `greatest` on the greater value stays. What a Lua number can't hold exactly goes through HINCRBY.
local function add_series(entry)
  local key, fields, amounts, greatest = entry[1], entry[3], entry[4], entry[5]
  local before = read('HMGET', entry)
  if before.err then return false end
  local set, place, clean = {}, 0, true
  for i, field in ipairs(fields) do
    local old, amount, new = tonumber(before[i] or 0), tonumber(amounts[i]), nil
    if i >= greatest then
      if not before[i] or (old and amount > old) then new = amount end
    elseif old and old + amount < EXACT and old + amount > -EXACT then
      new = old + amount
    else
      local exact = type(amounts[i]) == 'string' and amounts[i] or integer(amount)
      if type(redis.pcall('HINCRBY', key, field, exact)) == 'table' then clean = false end
    end
    if new then
      set[place + 1], set[place + 2] = field, new
      place = place + 2
    end
  end
  if set[1] and type(redis.pcall('HSET', key, unpack(set))) == 'table' then return false end
  if may_shrink then drop_zeros(key, set) end
  return clean
end

local function add_board(entry)
  local key, members, amounts = entry[1], entry[3], entry[4]
  local before = read('ZMSCORE', entry)
  if before.err then return false end
  local set = {}
  for i, member in ipairs(members) do
    set[2 * i - 1], set[2 * i] = tonumber(before[i] or 0) + amounts[i], member
  end
  local added = type(redis.pcall('ZADD', key, unpack(set))) ~= 'table'
  if may_shrink then redis.pcall('ZREMRANGEBYSCORE', key, 0, 0) end
  return added
end

local function add_all(entries, add)
  for _, entry in ipairs(entries) do
    if not add(entry) then
      wrong_type = wrong_type + 1
    elseif entry.ttl < 0 then
      expire(entry[1], entry[2])
    end
  end
end

local function register(entry)
  local key, set = entry[2], {}
  for i, member in ipairs(entry[7]) do
    set[#set + 1] = integer(entry[8][i])
    set[#set + 1] = member
  end
  if type(redis.pcall('ZADD', key, 'GT', unpack(set))) == 'table' then
    wrong_type = wrong_type + 1
    return
  end
  redis.pcall('ZREMRANGEBYSCORE', key, '-inf', '(' .. integer(now_ms - entry[4]))
  if entry.ttl < entry[4] / 1000 - 86400 then expire(key, entry[3]) end
end

-- Workers that were killed stay in `marked`, as nobody takes them out.
local function forget_expired(today)
  if redis.call('HLEN', KEYS[3]) < MOST_MARKED then return end
  local found = redis.call('HGETALL', KEYS[3])
  for i = 1, #found, 2 do
    if (tonumber(found[i + 1]) or 0) < today - EXPIRED_DAYS then redis.call('HDEL', KEYS[3], found[i]) end
  end
end

local function note_worker(noted)
  local today = math.floor(now_ms / 86400000)
  if tonumber(noted or nil) ~= today then
    if not noted then pcall(forget_expired, today) end
    redis.pcall('HSET', KEYS[3], worker, integer(today))
  end
  local left = redis.pcall('TTL', KEYS[3])
  if type(left) == 'number' and left < marked_seconds - 86400 then redis.pcall('EXPIRE', KEYS[3], marked_seconds) end
end

local noted = not once and redis.pcall('HGET', KEYS[3], worker)
if type(noted) == 'table' then noted = false end

-- Why a numbered chunk is not counted.
local function not_the_next()
  local mark = redis.pcall('GET', KEYS[1])
  if type(mark) == 'table' then
    if not mark.err:find('WRONGTYPE') then return mark end
    mark = nil -- Damaged, as one that is no number: it counts as missing, and is written anew.
  end
  local last = tonumber(mark or nil)
  if last and not (last >= 0 and last <= sealed) then last = nil end
  if not last then
    -- The worker was counted, and knows of no chunk that was: it was this one.
    if noted and doubt > 0 and previous == 0 then return {'DONE', number} end
    if doubt > 0 and (noted or (doubt > 1 and redis.call('EXISTS', KEYS[3]) == 1)) then return {'UNSURE'} end
    last = noted and previous or 0
  end
  if last >= number then return {'DONE', last} end
  if last ~= previous then return {'GAP', last} end
end

-- Those ids that were counted before, with what is kept of them.
local function counted_before()
  local answer = {'KNOWN'}
  for _, key in ipairs(once[1]) do
    if redis.call('EXISTS', key) == 1 then
      for _, kept in ipairs(once[2]) do
        for i, record in ipairs(redis.call('HMGET', key, unpack(kept[4]))) do
          if record then answer[#answer + 1] = {kept[4][i], record} end
        end
      end
    end
  end
  return answer[2] and answer
end

local function repacked()
  for _, month in ipairs(once[5] or {}) do
    if tonumber(redis.call('HGET', month[1], 'v') or 0) ~= month[2] then return {'AGAIN'} end
  end
end

local function crowded()
  for _, kept in ipairs(once[2]) do
    if kept[3] > 0 and redis.call('HLEN', kept[1]) + #kept[4] > kept[3] then return {'CROWDED', kept[1]} end
  end
end

-- The first sum that would leave the numbers which every counter holds exactly. How much was corrected may be below 0.
-- What is packed adds to what is live, which may then be below 0 itself.
local function beyond(entries, command)
  for _, entry in ipairs(entries) do
    local before = read(command, entry)
    if before.err then return {'RETRY', before.err .. ' (' .. entry[1] .. ')'} end
    entry.before = before
    for i = 1, entry[5] - 1 do
      local name, old = entry[3][i], tonumber(before[i] or 0) + (entry[6] and entry[6][i] or 0)
      local new = old + tonumber(entry[4][i])
      local may_fall = command == 'HMGET' and name:sub(-10) == ' corrected'
      if new >= EXACT or (new < 0 and not may_fall) then
        return {'BEYOND', string.format('%s of %s is %.0f and would be %.0f', name, entry[1], old, new)}
      end
    end
  end
end

-- The first write: out of memory, a read-only replica or a failing disk are refused here. Returns the error.
local function claim()
  if not once then return redis.pcall('SET', KEYS[1], integer(number), 'EX', applied_seconds).err end
  for _, kept in ipairs(once[2]) do
    local set = {}
    for i, id in ipairs(kept[4]) do
      set[2 * i - 1], set[2 * i] = id, kept[5][i]
    end
    local added = redis.pcall('HSET', kept[1], unpack(set))
    if type(added) == 'table' then return added.err end
    if redis.call('TTL', kept[1]) < 0 then expire(kept[1], kept[2]) end
  end
end

local refusal
if once then refusal = counted_before() or crowded() or repacked() else refusal = not_the_next() end
refusal = refusal or over_the_caps()
if refusal then return refusal end

local failure = touch(registry, 2) or touch(series, 1) or touch(boards, 1) or forbidden()
if once and not failure then
  refusal = beyond(series, 'HMGET') or beyond(boards, 'ZMSCORE')
  if refusal then return refusal end
  if once[3] then return {'OK', 0} end
end
failure = failure or claim()
if failure then return {'RETRY', failure} end

add_all(series, add_series)
add_all(boards, add_board)
for _, entry in ipairs(registry) do register(entry) end

if not once then note_worker(noted) end
if ARGV[1] == '' then redis.pcall('DEL', KEYS[4]) end
return {'OK', wrong_type}
