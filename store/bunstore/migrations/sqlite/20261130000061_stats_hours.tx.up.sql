-- The purge of statistics finds hours by it.
CREATE INDEX {{.Index}}stats_hours ON {{.Prefix}}stats (hour);
--bun:split
ALTER TABLE {{.Prefix}}purges ADD COLUMN stats_hours integer NOT NULL DEFAULT 0;
