DROP INDEX CONCURRENTLY IF EXISTS {{.Prefix}}deliveries_receiver;
--bun:split
DROP INDEX CONCURRENTLY IF EXISTS {{.Prefix}}deliveries_failed_runs;
