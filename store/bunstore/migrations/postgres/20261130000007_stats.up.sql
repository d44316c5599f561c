-- Ended runs by hour. Processes of earlier versions do not use the table.
CREATE TABLE IF NOT EXISTS {{.Prefix}}stats (
    assistant_id text COLLATE "C" NOT NULL, -- '': all
    hour         bigint NOT NULL,           -- since 1970
    status       text COLLATE "C" NOT NULL, -- '': the hour is counted
    slot         integer NOT NULL,          -- of the duration; -1: none
    runs         bigint NOT NULL,
    PRIMARY KEY (assistant_id, hour, status, slot)
);
--bun:split
-- A build that was interrupted leaves an index that is not valid.
DROP INDEX CONCURRENTLY IF EXISTS {{.Prefix}}ends_completed;
--bun:split
-- Ends are inserted in the order of this time nearly, and a row costs this index nothing.
CREATE INDEX CONCURRENTLY {{.Index}}ends_completed ON {{.Prefix}}ends USING brin (completed_at) WITH (pages_per_range = 32);
