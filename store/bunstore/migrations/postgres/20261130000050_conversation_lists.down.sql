DROP INDEX CONCURRENTLY IF EXISTS {{.Prefix}}conversations_named;
--bun:split
DROP INDEX CONCURRENTLY IF EXISTS {{.Prefix}}conversations_assistant;
