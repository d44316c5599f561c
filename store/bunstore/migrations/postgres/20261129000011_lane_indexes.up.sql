-- A build that was interrupted leaves an index that is not valid.
DROP INDEX CONCURRENTLY IF EXISTS {{.Prefix}}conversations_key;
--bun:split
CREATE UNIQUE INDEX CONCURRENTLY {{.Index}}conversations_key ON {{.Prefix}}conversations (assistant_id, key) WHERE key IS NOT NULL;
--bun:split
-- The open runs of a lane. No transition of a run changes its entry.
DROP INDEX CONCURRENTLY IF EXISTS {{.Prefix}}queue_lane;
--bun:split
CREATE INDEX CONCURRENTLY {{.Index}}queue_lane ON {{.Prefix}}queue (conversation_id, run_id) WHERE shared;
--bun:split
-- The runs behind another one: for bounds and timeouts of the queue.
DROP INDEX CONCURRENTLY IF EXISTS {{.Prefix}}queue_behind;
--bun:split
CREATE INDEX CONCURRENTLY {{.Index}}queue_behind ON {{.Prefix}}queue (assistant_id, waits_since) WHERE state = 'b';
