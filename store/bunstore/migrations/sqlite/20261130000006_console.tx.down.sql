DROP INDEX {{.Index}}runs_task;
--bun:split
DROP INDEX {{.Index}}deliveries_host;
--bun:split
DROP INDEX {{.Index}}deliveries_unsuccessful;
