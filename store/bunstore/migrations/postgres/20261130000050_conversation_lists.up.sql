-- Lists of conversations. Neither index names a column that changes. A build that was
-- interrupted leaves an index that is not valid.
DROP INDEX CONCURRENTLY IF EXISTS {{.Prefix}}conversations_assistant;
--bun:split
CREATE INDEX CONCURRENTLY {{.Index}}conversations_assistant ON {{.Prefix}}conversations (assistant_id, id);
--bun:split
-- One key in the conversations of all assistants.
DROP INDEX CONCURRENTLY IF EXISTS {{.Prefix}}conversations_named;
--bun:split
CREATE INDEX CONCURRENTLY {{.Index}}conversations_named ON {{.Prefix}}conversations (key, id) WHERE key IS NOT NULL;
