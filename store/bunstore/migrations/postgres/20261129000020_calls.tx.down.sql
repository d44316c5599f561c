ALTER TABLE {{.Prefix}}messages DROP COLUMN calls;
