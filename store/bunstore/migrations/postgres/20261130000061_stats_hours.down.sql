DROP INDEX CONCURRENTLY IF EXISTS {{.Prefix}}stats_hours;
--bun:split
ALTER TABLE {{.Prefix}}purges DROP COLUMN IF EXISTS stats_hours;
