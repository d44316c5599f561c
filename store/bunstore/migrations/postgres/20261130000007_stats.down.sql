DROP INDEX CONCURRENTLY IF EXISTS {{.Prefix}}ends_completed;
--bun:split
DROP TABLE IF EXISTS {{.Prefix}}stats;
