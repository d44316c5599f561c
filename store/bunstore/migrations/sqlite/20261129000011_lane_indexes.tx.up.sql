CREATE UNIQUE INDEX {{.Index}}conversations_key ON {{.Prefix}}conversations (assistant_id, key) WHERE key IS NOT NULL;
--bun:split
-- The open runs of a lane. No transition of a run changes its entry.
CREATE INDEX {{.Index}}queue_lane ON {{.Prefix}}queue (conversation_id, run_id) WHERE shared;
--bun:split
-- The runs behind another one: for bounds and timeouts of the queue.
CREATE INDEX {{.Index}}queue_behind ON {{.Prefix}}queue (assistant_id, waits_since) WHERE state = 'b';
