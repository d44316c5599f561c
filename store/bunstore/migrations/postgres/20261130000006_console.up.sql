-- For the lists of the administration. Only deliveries that were not delivered and runs
-- of a task have entries in these indexes; a block range index costs a row nothing.
-- A build that was interrupted leaves an index that is not valid.
DROP INDEX CONCURRENTLY IF EXISTS {{.Prefix}}deliveries_unsuccessful;
--bun:split
CREATE INDEX CONCURRENTLY {{.Index}}deliveries_unsuccessful ON {{.Prefix}}deliveries (state, id) WHERE state IN ('failed', 'blocked', 'unknown');
--bun:split
DROP INDEX CONCURRENTLY IF EXISTS {{.Prefix}}deliveries_host;
--bun:split
CREATE INDEX CONCURRENTLY {{.Index}}deliveries_host ON {{.Prefix}}deliveries (host, id) WHERE state IN ('failed', 'blocked', 'unknown');
--bun:split
DROP INDEX CONCURRENTLY IF EXISTS {{.Prefix}}deliveries_created;
--bun:split
CREATE INDEX CONCURRENTLY {{.Index}}deliveries_created ON {{.Prefix}}deliveries USING brin (created_at) WITH (pages_per_range = 32);
--bun:split
DROP INDEX CONCURRENTLY IF EXISTS {{.Prefix}}runs_task;
--bun:split
CREATE INDEX CONCURRENTLY {{.Index}}runs_task ON {{.Prefix}}runs (split_part(substr(task, 1, 26), ',', 1), id) WHERE task IS NOT NULL;
