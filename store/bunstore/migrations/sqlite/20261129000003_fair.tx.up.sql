-- Queued runs by assistant, and by key within an assistant: see docs/core-store.md.
CREATE INDEX {{.Index}}queue_turns ON {{.Prefix}}queue (assistant_id, run_id) WHERE state = 'q' AND native;
--bun:split
CREATE INDEX {{.Index}}queue_keys ON {{.Prefix}}queue (assistant_id, key_id, run_id) WHERE state = 'q' AND native;
