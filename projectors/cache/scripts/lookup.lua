-- Reads the documents of one lookup, in order of their ids, from the generation that is live.
-- KEYS  live
-- ARGV  1 beginning of the view's keys   2 lookup   3 value   4 id to begin after, or ''
--       5 most documents   6 bytes after which to stop, when there is a document
-- Answers live, writes, 1 when there are more documents, else 0, and then for each document its id and its value, or
-- false when it is not there. Answers nothing when no generation is live.
local live = redis.call('GET', KEYS[1])
if not live then return {} end
local generation = ARGV[1] .. 'g' .. string.match(live, '^%d+') .. ':'
local from = '-'
if ARGV[4] ~= '' then from = '(' .. ARGV[4] end
local limit, most = tonumber(ARGV[5]), tonumber(ARGV[6])
local ids = redis.call('ZRANGEBYLEX', generation .. 'l:' .. ARGV[2] .. ':' .. ARGV[3], from, '+', 'LIMIT', 0, limit + 1)
local answer, bytes = {live, redis.call('GET', generation .. 'writes'), 0}, 0
for i, id in ipairs(ids) do
  local value = i <= limit and redis.call('GET', generation .. 'd:' .. id)
  if value then bytes = bytes + #value end
  if i > limit or (i > 1 and bytes > most) then
    answer[3] = 1
    break
  end
  answer[#answer + 1] = id
  answer[#answer + 1] = value
end
return answer
