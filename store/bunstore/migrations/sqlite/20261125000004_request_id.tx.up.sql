-- The request that triggered a run; '': none, or before it was kept.
ALTER TABLE {{.Prefix}}runs ADD COLUMN request_id text NOT NULL DEFAULT '';
