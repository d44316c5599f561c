-- Callbacks are sent in turns by assistant, then by host. See docs/core-store.md.
ALTER TABLE {{.Prefix}}deliveries ADD COLUMN assistant_id text NOT NULL DEFAULT ''; -- of the run; '': ended before this column
DROP INDEX {{.Index}}deliveries_pending;
CREATE INDEX {{.Index}}deliveries_due ON {{.Prefix}}deliveries (due_at, id) WHERE state = 'pending';
UPDATE {{.Prefix}}deliveries SET assistant_id = (SELECT r.assistant_id FROM {{.Prefix}}runs r WHERE r.id = run_id)
    WHERE state IN ('pending', 'sending', 'unknown');
