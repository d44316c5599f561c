-- Lists of runs by their callbacks. Only deliveries that were not delivered have entries.
CREATE INDEX {{.Index}}deliveries_failed_runs ON {{.Prefix}}deliveries (run_id, state) WHERE state IN ('failed', 'blocked', 'unknown');
