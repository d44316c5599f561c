-- Lists of runs by their callbacks. Only deliveries that were not delivered have entries.
-- A build that was interrupted leaves an index that is not valid.
DROP INDEX CONCURRENTLY IF EXISTS {{.Prefix}}deliveries_failed_runs;
--bun:split
CREATE INDEX CONCURRENTLY {{.Index}}deliveries_failed_runs ON {{.Prefix}}deliveries (run_id, state) WHERE state IN ('failed', 'blocked', 'unknown');
--bun:split
-- Deliveries of a rare receiver or assistant. A row costs a block range index nothing.
DROP INDEX CONCURRENTLY IF EXISTS {{.Prefix}}deliveries_receiver;
--bun:split
CREATE INDEX CONCURRENTLY {{.Index}}deliveries_receiver ON {{.Prefix}}deliveries
    USING brin (host text_bloom_ops, assistant_id text_bloom_ops) WITH (pages_per_range = 32);
