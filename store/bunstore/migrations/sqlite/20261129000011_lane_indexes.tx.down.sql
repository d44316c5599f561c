DROP INDEX {{.Index}}queue_behind;
--bun:split
DROP INDEX {{.Index}}queue_lane;
--bun:split
DROP INDEX {{.Index}}conversations_key;
