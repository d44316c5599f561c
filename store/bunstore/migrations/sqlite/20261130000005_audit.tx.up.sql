-- The audit log: one row for each administrative write, in its transaction. Processes of
-- earlier versions do not use the table.
CREATE TABLE {{.Prefix}}audit (
    id         integer PRIMARY KEY AUTOINCREMENT,
    at         integer NOT NULL,
    actor      text NOT NULL, -- '': not named
    action     text NOT NULL, -- such as key.revoke
    object     text NOT NULL, -- kind and id, such as key/17
    request_id text NOT NULL, -- '': none
    detail     text           -- JSON; NULL: none
);
--bun:split
CREATE INDEX {{.Index}}audit_at ON {{.Prefix}}audit (at);
--bun:split
CREATE INDEX {{.Index}}audit_object ON {{.Prefix}}audit (object, id);
--bun:split
CREATE INDEX {{.Index}}audit_actor ON {{.Prefix}}audit (actor, id);
