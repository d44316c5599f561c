-- As the Postgres schema.
CREATE TABLE IF NOT EXISTS {{.Prefix}}unsuccessful (
    status text NOT NULL,
    run_id integer NOT NULL,
    PRIMARY KEY (status, run_id)
) WITHOUT ROWID;
INSERT OR IGNORE INTO {{.Prefix}}unsuccessful (status, run_id)
    SELECT status, id FROM {{.Prefix}}runs WHERE status <> 'completed';

CREATE INDEX IF NOT EXISTS {{.Index}}runs_key ON {{.Prefix}}runs (key_id, id) WHERE key_id <> 0;
