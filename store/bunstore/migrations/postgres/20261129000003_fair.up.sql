-- Queued runs by assistant, and by key within an assistant: see docs/core-store.md.
-- The last condition of each, which always holds, keeps the planner from the other one.
-- A build that was interrupted leaves an index that is not valid.
DROP INDEX CONCURRENTLY IF EXISTS {{.Prefix}}queue_turns;
--bun:split
CREATE INDEX CONCURRENTLY {{.Index}}queue_turns ON {{.Prefix}}queue (assistant_id, run_id) WHERE state = 'q' AND native AND run_id > 0;
--bun:split
DROP INDEX CONCURRENTLY IF EXISTS {{.Prefix}}queue_keys;
--bun:split
CREATE INDEX CONCURRENTLY {{.Index}}queue_keys ON {{.Prefix}}queue (assistant_id, key_id, run_id) WHERE state = 'q' AND native AND key_id >= 0;
