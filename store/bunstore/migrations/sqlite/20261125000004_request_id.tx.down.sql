ALTER TABLE {{.Prefix}}runs DROP COLUMN request_id;
