-- As the Postgres schema, with times in microseconds since 1970.

-- Runs are written once, ends are written once, and what changes in between is in
-- the queue. See docs/core-store.md.

-- The previous tables step aside: the new ones have some of their names.
ALTER TABLE {{.Prefix}}runs RENAME TO {{.Prefix}}runs_old;
ALTER TABLE {{.Prefix}}queue RENAME TO {{.Prefix}}queue_old;
ALTER TABLE {{.Prefix}}conversations RENAME TO {{.Prefix}}conversations_old;
DROP INDEX {{.Index}}runs_assistant;
DROP INDEX {{.Index}}runs_key;
DROP INDEX {{.Index}}queue_waiting;
DROP INDEX {{.Index}}queue_waits_since;
DROP INDEX {{.Index}}queue_leased;
DROP INDEX {{.Index}}queue_bounded;

-- A run as it was triggered. Insert-only.
CREATE TABLE {{.Prefix}}runs (
    id              integer PRIMARY KEY AUTOINCREMENT,
    conversation_id integer NOT NULL, -- = id if this run started it; older rows: any id
    key_id          integer NOT NULL, -- 0: a call from Go
    message_id      integer NOT NULL, -- the message that it answers
    first_event_id  integer NOT NULL,
    created_at      integer NOT NULL,
    run_key         text NOT NULL UNIQUE,
    assistant_id    text NOT NULL,
    subject         text NOT NULL,   -- '': none, or a run that joined a conversation
    message         text NOT NULL,
    context         text,            -- as sent; NULL: none
    metadata        text,            -- as sent; NULL: none
    task            text,            -- the definition as it was, as JSON; NULL: none
    base_url        text NOT NULL,
    callback_url    text NOT NULL,   -- '': none
    callback_host   text NOT NULL,
    trace_parent    text NOT NULL,   -- '': none
    request_id      text NOT NULL    -- '': none
);

-- The open runs, one row each. The only table of a run whose rows change.
CREATE TABLE {{.Prefix}}queue (
    run_id           integer PRIMARY KEY,
    conversation_id  integer NOT NULL,
    key_id           integer NOT NULL,
    token            integer NOT NULL,      -- fencing token of the last claim
    batch            integer NOT NULL,      -- number of the last event batch stored under the token
    last_sequence    integer NOT NULL,      -- of the run's events
    started_sequence integer NOT NULL,      -- of the last run_started; 0: none since the run was queued
    waits_since      integer NOT NULL, -- last queued
    started_at       integer,          -- last claimed
    expires_at       integer,          -- when the last lease ends
    attempts         integer NOT NULL,
    state            text NOT NULL,      -- q: queued, r: running
    native           boolean NOT NULL,     -- false: another engine hands it out
    bounded          boolean NOT NULL,     -- counts toward the bound of its assistant
    shared           boolean NOT NULL,     -- its conversation has a row of its own
    assistant_id     text NOT NULL,
    process_id       text,     -- of its worker while it is running
    stop_status      text,                 -- a recorded stop; NULL: none
    stop_detail      text,
    stop_error       text
);

-- How a run ended. Insert-only.
CREATE TABLE {{.Prefix}}ends (
    run_id            integer PRIMARY KEY,
    token             integer NOT NULL, -- of the last claim
    last_sequence     integer NOT NULL,
    started_sequence  integer NOT NULL, -- of the last run_started; 0: none since the run was last queued
    last_message_id   integer NOT NULL, -- of the conversation, after this end
    result_message_id integer NOT NULL, -- 0: no result
    input_tokens      integer,          -- NULL: usage is not known
    output_tokens     integer,
    completed_at      integer NOT NULL,
    started_at        integer,     -- of the last attempt; NULL: never claimed
    attempts          integer NOT NULL,
    status            text NOT NULL,
    status_detail     text NOT NULL,
    error_message     text NOT NULL,
    result            text             -- NULL: none
);

-- The conversations that more than one run has joined, and their counters. A
-- conversation of one run has no row: its id is the id of its run.
CREATE TABLE {{.Prefix}}conversations (
    id              integer PRIMARY KEY,
    first_run_id    integer NOT NULL,
    last_event_id   integer NOT NULL,
    last_message_id integer NOT NULL,
    purged_event_id integer NOT NULL DEFAULT 0, -- events up to this one are purged
    created_at      integer NOT NULL,
    open_runs       integer NOT NULL,
    assistant_id    text NOT NULL,
    subject         text NOT NULL,
    metadata        text
);

-- The runs whose events retention has purged.
CREATE TABLE {{.Prefix}}purge_marks (
    run_id   integer PRIMARY KEY,
    event_id integer NOT NULL,  -- events of the run up to this id are purged, derived ones too
    sequence integer NOT NULL,  -- of that event
    complete boolean NOT NULL  -- all events of the run are purged
);

ALTER TABLE {{.Prefix}}deliveries ADD COLUMN unknown_at integer; -- when a sweep found its outcome unknown

-- What is stored moves over. All conversations that exist are shared.
INSERT INTO {{.Prefix}}runs (id, conversation_id, key_id, message_id, first_event_id, created_at, run_key, assistant_id, subject, message,
        context, metadata, task, base_url, callback_url, callback_host, trace_parent, request_id)
    SELECT r.id, r.conversation_id, r.key_id, r.message_id, r.first_event_id, r.created_at, r.run_key, r.assistant_id,
        CASE WHEN c.first_run_id = r.id THEN c.subject ELSE '' END, m.content,
        r.context, CASE WHEN c.first_run_id = r.id THEN c.metadata END, r.task,
        r.base_url, r.callback_url, r.callback_host, r.trace_parent, r.request_id
    FROM {{.Prefix}}runs_old r
    JOIN {{.Prefix}}conversations_old c ON c.id = r.conversation_id
    JOIN {{.Prefix}}messages m ON m.conversation_id = r.conversation_id AND m.id = r.message_id
    ORDER BY r.id;

INSERT INTO {{.Prefix}}ends (run_id, token, last_sequence, started_sequence, last_message_id, result_message_id, input_tokens, output_tokens,
        completed_at, started_at, attempts, status, status_detail, error_message, result)
    SELECT r.id, 0, max(r.purged_sequence, coalesce(e.sequence, 0)), 0, 0, coalesce(r.result_message_id, 0), r.input_tokens, r.output_tokens,
        r.completed_at, r.started_at, coalesce(r.attempts, 0), r.status, r.status_detail, r.error_message, m.content
    FROM {{.Prefix}}runs_old r
    LEFT JOIN (SELECT run_id, max(sequence) AS sequence FROM {{.Prefix}}events GROUP BY run_id) e ON e.run_id = r.id
    LEFT JOIN {{.Prefix}}messages m ON m.conversation_id = r.conversation_id AND m.id = r.result_message_id
    WHERE r.status IS NOT NULL ORDER BY r.id;

INSERT INTO {{.Prefix}}queue (run_id, conversation_id, key_id, token, batch, last_sequence, started_sequence, waits_since, started_at, expires_at,
        attempts, state, native, bounded, shared, assistant_id, process_id, stop_status, stop_detail, stop_error)
    SELECT q.run_id, q.conversation_id, r.key_id, q.token, q.batch, q.last_sequence, 0, q.waits_since, q.started_at, q.expires_at,
        q.attempts, CASE WHEN q.leased THEN 'r' ELSE 'q' END, q.native, q.bounded_for IS NOT NULL, true, r.assistant_id,
        CASE WHEN q.leased THEN q.worker END, q.stop_status, q.stop_detail, q.stop_error
    FROM {{.Prefix}}queue_old q JOIN {{.Prefix}}runs_old r ON r.id = q.run_id;

INSERT INTO {{.Prefix}}conversations (id, first_run_id, last_event_id, last_message_id, purged_event_id, created_at, open_runs,
        assistant_id, subject, metadata)
    SELECT id, first_run_id, last_event_id, last_message_id, purged_event_id, created_at, open_runs, assistant_id, subject, metadata
    FROM {{.Prefix}}conversations_old ORDER BY id;

INSERT INTO {{.Prefix}}purge_marks (run_id, event_id, sequence, complete)
    SELECT id, purged_event_id, purged_sequence, events_purged FROM {{.Prefix}}runs_old WHERE events_purged OR purged_event_id > 0;

UPDATE {{.Prefix}}deliveries SET unknown_at = coalesce((SELECT callback_at FROM {{.Prefix}}runs_old r
    WHERE r.id = run_id AND r.callback_delivery_id = {{.Prefix}}deliveries.id), attempted_at) WHERE state = 'unknown';

-- The id of a run may become the id of its conversation: it is higher than any of
-- both that was given.
DELETE FROM sqlite_sequence WHERE name = '{{.Prefix}}runs';
INSERT INTO sqlite_sequence (name, seq) SELECT '{{.Prefix}}runs', coalesce(max(seq), 0) FROM sqlite_sequence
    WHERE name IN ('{{.Prefix}}runs_old', '{{.Prefix}}conversations_old');

DROP TABLE {{.Prefix}}unsuccessful;
DROP TABLE {{.Prefix}}queue_old;
DROP TABLE {{.Prefix}}runs_old;
DROP TABLE {{.Prefix}}conversations_old;

CREATE INDEX {{.Index}}runs_assistant ON {{.Prefix}}runs (assistant_id, id);
CREATE INDEX {{.Index}}runs_key ON {{.Prefix}}runs (key_id, id) WHERE key_id <> 0;
-- A run that starts a conversation costs this index nothing.
CREATE INDEX {{.Index}}runs_conversation ON {{.Prefix}}runs (conversation_id, id) WHERE conversation_id <> id;
CREATE INDEX {{.Index}}queue_waiting ON {{.Prefix}}queue (run_id) WHERE state = 'q' AND native AND NOT shared;
CREATE INDEX {{.Index}}queue_lanes ON {{.Prefix}}queue (run_id) WHERE state = 'q' AND native AND shared;
CREATE INDEX {{.Index}}queue_waits_since ON {{.Prefix}}queue (waits_since) WHERE state = 'q';
CREATE INDEX {{.Index}}queue_running ON {{.Prefix}}queue (process_id, run_id) WHERE state = 'r';
CREATE INDEX {{.Index}}queue_bounded ON {{.Prefix}}queue (assistant_id) WHERE state = 'q' AND bounded;
CREATE INDEX {{.Index}}ends_unsuccessful ON {{.Prefix}}ends (status, run_id) WHERE status <> 'completed';
