-- Claims get leases that have expired.
ALTER TABLE {{.Prefix}}queue ADD COLUMN expires_at timestamptz;
UPDATE {{.Prefix}}queue SET expires_at = now() WHERE state = 'r';
DROP TABLE {{.Prefix}}processes;
