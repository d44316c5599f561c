-- Recorded steps of runs. A run without steps has no row.
CREATE TABLE {{.Prefix}}steps (
    run_id      integer NOT NULL,
    name        text NOT NULL,
    nth         integer NOT NULL, -- counts from 1 within the name
    fingerprint text NOT NULL,    -- of the input; '': none
    record      text,             -- JSON; NULL: only the start mark is stored
    PRIMARY KEY (run_id, name, nth)
);
