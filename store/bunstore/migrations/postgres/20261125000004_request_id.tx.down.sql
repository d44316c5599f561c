ALTER TABLE {{.Prefix}}runs DROP COLUMN IF EXISTS request_id;
