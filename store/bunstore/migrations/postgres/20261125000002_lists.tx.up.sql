-- What lists of runs are narrowed by. No index may name a column of runs that its
-- end changes, not even in a condition: each end would then write all indexes.

-- The runs that ended otherwise than completed, by how.
CREATE TABLE IF NOT EXISTS {{.Prefix}}unsuccessful (
    status text COLLATE "C" NOT NULL,
    run_id bigint NOT NULL,
    PRIMARY KEY (status, run_id)
);
INSERT INTO {{.Prefix}}unsuccessful (status, run_id)
    SELECT status, id FROM {{.Prefix}}runs WHERE status <> 'completed' ON CONFLICT DO NOTHING;

CREATE INDEX IF NOT EXISTS {{.Index}}runs_key ON {{.Prefix}}runs (key_id, id) WHERE key_id <> 0;
-- Times rise with the table nearly, and a row costs this index nothing.
CREATE INDEX IF NOT EXISTS {{.Index}}runs_created ON {{.Prefix}}runs USING brin (created_at) WITH (pages_per_range = 32);
