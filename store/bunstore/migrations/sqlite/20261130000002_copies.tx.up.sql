-- Large copies of task definitions, each once: see docs/core-store.md. A run created before keeps its own.
CREATE TABLE {{.Prefix}}task_copies (
    hash       text PRIMARY KEY,
    task       text NOT NULL,
    created_at integer NOT NULL
) WITHOUT ROWID;
--bun:split
-- The runs that refer to a copy.
CREATE INDEX {{.Index}}runs_copies ON {{.Prefix}}runs (substr(task, length(task) - 63)) WHERE octet_length(task) < 100;
