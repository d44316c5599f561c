-- Waiting for input, and scopes of keys: see docs/core.md.
ALTER TABLE {{.Prefix}}queue ADD COLUMN wake_at integer; -- waiting: when the request expires
--bun:split
ALTER TABLE {{.Prefix}}queue ADD COLUMN executed_us integer NOT NULL DEFAULT 0; -- executing time before it waited
--bun:split
ALTER TABLE {{.Prefix}}api_keys ADD COLUMN scopes text NOT NULL DEFAULT 'trigger read cancel';
--bun:split
CREATE TABLE {{.Prefix}}inputs (
    id          integer PRIMARY KEY AUTOINCREMENT,
    run_id      integer NOT NULL,
    created_at  integer NOT NULL,
    expires_at  integer NOT NULL,
    request     text NOT NULL,
    answer      text,                    -- NULL: none
    answered_at integer
);
--bun:split
CREATE INDEX {{.Index}}inputs_run ON {{.Prefix}}inputs (run_id, id);
--bun:split
CREATE INDEX {{.Index}}queue_wake ON {{.Prefix}}queue (wake_at) WHERE wake_at IS NOT NULL;
