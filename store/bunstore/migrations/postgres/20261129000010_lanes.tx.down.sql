UPDATE {{.Prefix}}queue SET state = 'q' WHERE state = 'b';
ALTER TABLE {{.Prefix}}ends DROP COLUMN first_message_id;
ALTER TABLE {{.Prefix}}runs DROP COLUMN conversation_key;
ALTER TABLE {{.Prefix}}conversations DROP COLUMN key;
