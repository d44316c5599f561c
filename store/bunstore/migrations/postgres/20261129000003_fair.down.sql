DROP INDEX CONCURRENTLY IF EXISTS {{.Prefix}}queue_keys;
--bun:split
DROP INDEX CONCURRENTLY IF EXISTS {{.Prefix}}queue_turns;
