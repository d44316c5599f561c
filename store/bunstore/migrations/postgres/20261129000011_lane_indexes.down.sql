DROP INDEX CONCURRENTLY IF EXISTS {{.Prefix}}queue_behind;
--bun:split
DROP INDEX CONCURRENTLY IF EXISTS {{.Prefix}}queue_lane;
--bun:split
DROP INDEX CONCURRENTLY IF EXISTS {{.Prefix}}conversations_key;
