DROP INDEX IF EXISTS {{.Prefix}}queue_bounded;
ALTER TABLE {{.Prefix}}queue DROP COLUMN bounded_for;
