-- Claims get leases that have expired.
ALTER TABLE {{.Prefix}}queue ADD COLUMN expires_at integer;
UPDATE {{.Prefix}}queue SET expires_at = CAST(strftime('%s', 'now') AS integer) * 1000000 WHERE state = 'r';
DROP TABLE {{.Prefix}}processes;
