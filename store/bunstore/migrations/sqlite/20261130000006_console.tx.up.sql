-- For the lists of the administration. Only deliveries that were not delivered and runs
-- of a task have entries in these indexes.
CREATE INDEX {{.Index}}deliveries_unsuccessful ON {{.Prefix}}deliveries (state, id) WHERE state IN ('failed', 'blocked', 'unknown');
--bun:split
CREATE INDEX {{.Index}}deliveries_host ON {{.Prefix}}deliveries (host, id) WHERE state IN ('failed', 'blocked', 'unknown');
--bun:split
CREATE INDEX {{.Index}}runs_task ON {{.Prefix}}runs (substr(task, 1, instr(task, ',') - 1), id) WHERE task IS NOT NULL;
