DROP INDEX {{.Index}}stats_hours;
--bun:split
ALTER TABLE {{.Prefix}}purges DROP COLUMN stats_hours;
