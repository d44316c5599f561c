DROP INDEX {{.Index}}queue_wake;
--bun:split
DROP TABLE {{.Prefix}}inputs;
--bun:split
ALTER TABLE {{.Prefix}}api_keys DROP COLUMN scopes;
--bun:split
UPDATE {{.Prefix}}queue SET state = 'q' WHERE state = 'w'; -- their Runners ask again
--bun:split
ALTER TABLE {{.Prefix}}queue DROP COLUMN executed_us;
--bun:split
ALTER TABLE {{.Prefix}}queue DROP COLUMN wake_at;
