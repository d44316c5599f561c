DROP INDEX CONCURRENTLY IF EXISTS {{.Prefix}}runs_task;
--bun:split
DROP INDEX CONCURRENTLY IF EXISTS {{.Prefix}}deliveries_created;
--bun:split
DROP INDEX CONCURRENTLY IF EXISTS {{.Prefix}}deliveries_host;
--bun:split
DROP INDEX CONCURRENTLY IF EXISTS {{.Prefix}}deliveries_unsuccessful;
