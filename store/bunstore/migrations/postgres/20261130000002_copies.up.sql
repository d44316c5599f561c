-- Large copies of task definitions, each once: see docs/core-store.md. A run created before keeps its own.
CREATE TABLE IF NOT EXISTS {{.Prefix}}task_copies (
    hash       text COLLATE "C" PRIMARY KEY,
    task       text NOT NULL,
    created_at timestamptz NOT NULL
);
--bun:split
-- The runs that refer to a copy. A build that was interrupted leaves an index that is not valid.
DROP INDEX CONCURRENTLY IF EXISTS {{.Prefix}}runs_copies;
--bun:split
CREATE INDEX CONCURRENTLY {{.Index}}runs_copies ON {{.Prefix}}runs ((substr(task, length(task) - 63))) WHERE octet_length(task) < 100;
