-- The purge of statistics finds hours by it. A build that was interrupted leaves an index
-- that is not valid.
DROP INDEX CONCURRENTLY IF EXISTS {{.Prefix}}stats_hours;
--bun:split
CREATE INDEX CONCURRENTLY {{.Index}}stats_hours ON {{.Prefix}}stats (hour);
--bun:split
ALTER TABLE {{.Prefix}}purges ADD COLUMN IF NOT EXISTS stats_hours bigint NOT NULL DEFAULT 0;
