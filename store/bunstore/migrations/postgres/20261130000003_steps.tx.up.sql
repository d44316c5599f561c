-- Recorded steps of runs. A run without steps has no row.
CREATE TABLE {{.Prefix}}steps (
    run_id      bigint NOT NULL,
    name        text COLLATE "C" NOT NULL,
    nth         integer NOT NULL,       -- counts from 1 within the name
    fingerprint text COLLATE "C" NOT NULL, -- of the input; '': none
    record      text,                   -- JSON; NULL: only the start mark is stored
    PRIMARY KEY (run_id, name, nth)
);
DO $$
BEGIN
    EXECUTE 'ALTER TABLE {{.Prefix}}steps ALTER COLUMN record SET COMPRESSION lz4';
EXCEPTION WHEN OTHERS THEN NULL;
END $$;
