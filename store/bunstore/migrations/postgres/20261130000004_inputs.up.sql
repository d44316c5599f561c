-- Waiting for input, and scopes of keys: see docs/core.md. No statement rewrites a table
-- or stops other processes for long. Each may be repeated after an interruption.
ALTER TABLE {{.Prefix}}queue ADD COLUMN IF NOT EXISTS wake_at timestamptz; -- waiting: when the request expires
--bun:split
ALTER TABLE {{.Prefix}}queue ADD COLUMN IF NOT EXISTS executed_us bigint NOT NULL DEFAULT 0; -- executing time before it waited
--bun:split
ALTER TABLE {{.Prefix}}api_keys ADD COLUMN IF NOT EXISTS scopes text NOT NULL DEFAULT 'trigger read cancel';
--bun:split
CREATE TABLE IF NOT EXISTS {{.Prefix}}inputs (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id      bigint NOT NULL,
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    request     text NOT NULL,
    answer      text,                    -- NULL: none
    answered_at timestamptz
);
--bun:split
CREATE INDEX IF NOT EXISTS {{.Index}}inputs_run ON {{.Prefix}}inputs (run_id, id);
--bun:split
-- A build that was interrupted leaves an index that is not valid.
DROP INDEX CONCURRENTLY IF EXISTS {{.Prefix}}queue_wake;
--bun:split
CREATE INDEX CONCURRENTLY {{.Index}}queue_wake ON {{.Prefix}}queue (wake_at) WHERE wake_at IS NOT NULL;
