ALTER TABLE {{.Prefix}}queue DROP COLUMN IF EXISTS bounded_for;
