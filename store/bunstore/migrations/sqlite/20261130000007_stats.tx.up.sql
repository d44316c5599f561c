-- Ended runs by hour.
CREATE TABLE {{.Prefix}}stats (
    assistant_id text NOT NULL,    -- '': all
    hour         integer NOT NULL, -- since 1970
    status       text NOT NULL,    -- '': the hour is counted
    slot         integer NOT NULL, -- of the duration; -1: none
    runs         integer NOT NULL,
    PRIMARY KEY (assistant_id, hour, status, slot)
) WITHOUT ROWID;
--bun:split
CREATE INDEX {{.Index}}ends_completed ON {{.Prefix}}ends (completed_at);
