DROP INDEX {{.Index}}ends_completed;
--bun:split
DROP TABLE {{.Prefix}}stats;
