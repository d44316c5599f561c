DROP INDEX CONCURRENTLY IF EXISTS {{.Prefix}}queue_wake;
--bun:split
DROP TABLE IF EXISTS {{.Prefix}}inputs;
--bun:split
ALTER TABLE {{.Prefix}}api_keys DROP COLUMN IF EXISTS scopes;
--bun:split
UPDATE {{.Prefix}}queue SET state = 'q' WHERE state = 'w'; -- their Runners ask again
--bun:split
ALTER TABLE {{.Prefix}}queue DROP COLUMN IF EXISTS executed_us;
--bun:split
ALTER TABLE {{.Prefix}}queue DROP COLUMN IF EXISTS wake_at;
