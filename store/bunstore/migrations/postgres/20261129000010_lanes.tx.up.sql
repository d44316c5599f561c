-- Conversations with keys, and lanes: see docs/conversations.md. Rows of earlier
-- versions stay as they are; the audit of the sweep puts their lanes in order.
ALTER TABLE {{.Prefix}}conversations ADD COLUMN key text COLLATE "C"; -- NULL: none
ALTER TABLE {{.Prefix}}runs ADD COLUMN conversation_key text COLLATE "C"; -- of its conversation
ALTER TABLE {{.Prefix}}ends ADD COLUMN first_message_id bigint; -- where the transcript begins; NULL: after the user's message
