-- Saves a generation's checkpoint.
-- KEYS  identity, writes, checkpoint   ARGV  1 identity expected   2 fewest writes expected   3 checkpoint
-- Answers 1, or -1 and changes nothing when the generation is not the one expected.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
if tonumber(redis.call('GET', KEYS[2]) or '-1') < tonumber(ARGV[2]) then return -1 end
redis.call('SET', KEYS[3], ARGV[3])
return 1
