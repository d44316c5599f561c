DROP INDEX {{.Index}}conversations_named;
--bun:split
DROP INDEX {{.Index}}conversations_assistant;
