DROP INDEX {{.Index}}queue_keys;
--bun:split
DROP INDEX {{.Index}}queue_turns;
