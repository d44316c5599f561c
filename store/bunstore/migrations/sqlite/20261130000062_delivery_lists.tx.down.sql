DROP INDEX {{.Index}}deliveries_failed_runs;
