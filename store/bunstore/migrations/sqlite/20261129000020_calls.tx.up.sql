-- Tool calls of messages, as JSON: those that an assistant message requests, or the one
-- that a tool message answers. NULL: none.
ALTER TABLE {{.Prefix}}messages ADD COLUMN calls text;
