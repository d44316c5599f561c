CREATE INDEX {{.Index}}conversations_assistant ON {{.Prefix}}conversations (assistant_id, id);
--bun:split
CREATE INDEX {{.Index}}conversations_named ON {{.Prefix}}conversations (key, id) WHERE key IS NOT NULL;
