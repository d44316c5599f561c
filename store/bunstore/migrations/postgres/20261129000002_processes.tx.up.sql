-- Leases belong to processes. See docs/core-store.md.
CREATE TABLE {{.Prefix}}processes (
    id            text COLLATE "C" PRIMARY KEY,
    registered_at timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL,
    contact_since timestamptz NOT NULL, -- since when the row never expired between two renewals
    lost_at       timestamptz,          -- set by a sweep: the row cannot be renewed any more
    lease         bigint NOT NULL,      -- microseconds
    max_attempts  integer NOT NULL
) WITH (fillfactor = 50);

-- Claims of before belong to a process that is lost: the next sweep ends their runs.
INSERT INTO {{.Prefix}}processes (id, registered_at, expires_at, contact_since, lost_at, lease, max_attempts)
    SELECT 'migrated', now(), now(), now(), now(), 0, 1 WHERE EXISTS (SELECT FROM {{.Prefix}}queue WHERE state = 'r');
UPDATE {{.Prefix}}queue SET process_id = 'migrated' WHERE state = 'r';

ALTER TABLE {{.Prefix}}queue DROP COLUMN expires_at;
