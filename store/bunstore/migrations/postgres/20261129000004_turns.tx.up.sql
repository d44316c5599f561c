-- Callbacks are sent in turns by assistant, then by host. See docs/core-store.md.
ALTER TABLE {{.Prefix}}deliveries ADD COLUMN assistant_id text COLLATE "C" NOT NULL DEFAULT ''; -- of the run; '': ended before this column
DROP INDEX {{.Prefix}}deliveries_pending;
CREATE INDEX {{.Index}}deliveries_due ON {{.Prefix}}deliveries (due_at, id) WHERE state = 'pending';
-- The hashes let a walk over all assistants, or all hosts of one, begin anywhere.
CREATE INDEX {{.Index}}deliveries_assistants ON {{.Prefix}}deliveries (hashtext(assistant_id), due_at, id) WHERE state = 'pending';
CREATE INDEX {{.Index}}deliveries_hosts ON {{.Prefix}}deliveries (hashtext(assistant_id),
    (hashtext(host)::bigint * 2 + (retry > 0)::integer), due_at, id) WHERE state = 'pending';

UPDATE {{.Prefix}}deliveries d SET assistant_id = r.assistant_id FROM {{.Prefix}}runs r
    WHERE r.id = d.run_id AND d.state IN ('pending', 'sending', 'unknown');
