-- What the purges of all processes did last. One row. Processes of earlier versions do not
-- use the table.
CREATE TABLE {{.Prefix}}purges (
    id            integer PRIMARY KEY, -- 1
    passed_at     integer NOT NULL, -- end of the last complete pass
    deleted_at    integer,          -- end of the last pass that deleted data, and what it deleted; NULL: none
    triggers      integer NOT NULL,
    events        integer NOT NULL, -- runs without their events
    audit_entries integer NOT NULL
);
