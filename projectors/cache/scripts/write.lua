-- Writes documents and tombstones of one generation that are not older than what is there, with their lookups.
-- KEYS  identity, writes, then the key of each document
-- ARGV  1 identity expected   2 fewest writes expected   3 version
--       4 time to live of documents, ms, 0 = for ever     5 of tombstones, ms
--       6 beginning of document keys   7 beginning of lookup keys
--       8 number of lookups n, then their n names, then the value of each document
-- Answers the number of writes, or -1 and changes nothing when the generation is not the one expected.
local call, sub = redis.call, string.sub
if call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
if tonumber(call('GET', KEYS[2]) or '-1') < tonumber(ARGV[2]) then return -1 end

local version, ttl, tombstone_ttl = ARGV[3], ARGV[4], ARGV[5]
local document_key, lookup_key, lookups = ARGV[6], ARGV[7], tonumber(ARGV[8])
local version_size, block_at, first = 19, 29, 9 + lookups -- as in value.go; Lua counts from 1
local shape = '^%d+[dt]%x+$' -- of the beginning of a value, up to the block

local function block(value) -- of a value or of the beginning of one; the second result is where the body begins
  local size = tonumber(sub(value, version_size + 2, version_size + 9), 16)
  return sub(value, block_at, block_at + size - 1), size
end

local function each(block, f) -- calls f with each lookup that is not null
  local at = 1
  for i = 1, lookups do
    local size = tonumber(sub(block, at, at + 7), 16)
    if not size then return end
    if size > 0 then f(lookup_key .. ARGV[8 + i] .. ':' .. sub(block, at + 8, at + 7 + size)) end
    at = at + 8 + size
  end
end

for i = 3, #KEYS do
  local key, value = KEYS[i], ARGV[first + i - 3]
  local old = call('GETRANGE', key, 0, block_at - 2)
  -- What somebody else wrote, and is no value, is not newer, whatever it begins with.
  if sub(old, 1, version_size) <= version or not string.find(old, shape) then
    if lookups > 0 then
      local new_block = block(value)
      local old_block = ''
      if old ~= '' then
        local size = tonumber(sub(old, version_size + 2), 16)
        if size and size > 0 then old_block = call('GETRANGE', key, block_at - 1, block_at + size - 2) end
      end
      if old_block ~= new_block then
        local id = sub(key, #document_key + 1)
        each(old_block, function(l) call('ZREM', l, id) end)
        each(new_block, function(l) call('ZADD', l, 0, id) end)
      end
    end
    if sub(value, version_size + 1, version_size + 1) == 't' then
      call('SET', key, value, 'PX', tombstone_ttl)
    elseif ttl == '0' then
      call('SET', key, value)
    else
      call('SET', key, value, 'PX', ttl)
    end
  end
end
return call('INCR', KEYS[2])
