-- Makes a generation the live one.
-- KEYS  live, identity, writes   ARGV  1 number   2 identity expected   3 fewest writes expected
-- Answers 1, or -1 and changes nothing when the generation is not the one expected.
if redis.call('GET', KEYS[2]) ~= ARGV[2] then return -1 end
if tonumber(redis.call('GET', KEYS[3]) or '-1') < tonumber(ARGV[3]) then return -1 end
redis.call('SET', KEYS[1], ARGV[1] .. ':' .. ARGV[2])
return 1
