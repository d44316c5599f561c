ALTER TABLE {{.Prefix}}channels ADD COLUMN secrets_set_at timestamptz; -- when the signing secrets were set or removed; NULL: not known
