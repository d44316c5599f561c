ALTER TABLE {{.Prefix}}channels DROP COLUMN secrets_set_at;
