UPDATE {{.Prefix}}queue SET state = 'q' WHERE state = 'b';
--bun:split
ALTER TABLE {{.Prefix}}ends DROP COLUMN first_message_id;
--bun:split
ALTER TABLE {{.Prefix}}runs DROP COLUMN conversation_key;
--bun:split
ALTER TABLE {{.Prefix}}conversations DROP COLUMN key;
