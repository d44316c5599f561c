-- Leases belong to processes. See docs/core-store.md. Times are microseconds.
CREATE TABLE {{.Prefix}}processes (
    id            text NOT NULL PRIMARY KEY,
    registered_at integer NOT NULL,
    expires_at    integer NOT NULL,
    contact_since integer NOT NULL, -- since when the row never expired between two renewals
    lost_at       integer,          -- set by a sweep: the row cannot be renewed any more
    lease         integer NOT NULL, -- microseconds
    max_attempts  integer NOT NULL
) WITHOUT ROWID;
-- Claims of before belong to a process that is lost: the next sweep ends their runs.
INSERT INTO {{.Prefix}}processes (id, registered_at, expires_at, contact_since, lost_at, lease, max_attempts)
    SELECT 'migrated', t.now, t.now, t.now, t.now, 0, 1 FROM (SELECT CAST(strftime('%s', 'now') AS integer) * 1000000 AS now) t
    WHERE EXISTS (SELECT 1 FROM {{.Prefix}}queue WHERE state = 'r');
UPDATE {{.Prefix}}queue SET process_id = 'migrated' WHERE state = 'r';
ALTER TABLE {{.Prefix}}queue DROP COLUMN expires_at;
