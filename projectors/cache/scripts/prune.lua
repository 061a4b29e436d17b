-- Takes ids out of a lookup to which their documents no longer belong.
-- KEYS  lookup, then the key of each document   ARGV  for each document its id and the version seen, '' for none
-- A document that has changed since is left alone: the write script has put it where it belongs.
for i = 2, #KEYS do
  if redis.call('GETRANGE', KEYS[i], 0, 18) == ARGV[2 * i - 2] then
    redis.call('ZREM', KEYS[1], ARGV[2 * i - 3])
  end
end
return 1
