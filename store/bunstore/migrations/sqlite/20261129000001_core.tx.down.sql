-- The previous tables, empty: all runs go, with what belongs to them.
DROP TABLE IF EXISTS {{.Prefix}}purge_marks;
DROP TABLE IF EXISTS {{.Prefix}}ends;
DROP TABLE IF EXISTS {{.Prefix}}queue;
DROP TABLE IF EXISTS {{.Prefix}}runs;
DROP TABLE IF EXISTS {{.Prefix}}conversations;
DELETE FROM {{.Prefix}}events;
DELETE FROM {{.Prefix}}messages;
DELETE FROM {{.Prefix}}deliveries;
DELETE FROM {{.Prefix}}idempotency_keys;
ALTER TABLE {{.Prefix}}deliveries DROP COLUMN unknown_at;

CREATE TABLE {{.Prefix}}conversations (
    id              integer PRIMARY KEY AUTOINCREMENT,
    assistant_id    text NOT NULL,
    subject         text NOT NULL,
    metadata        text,
    created_at      integer     NOT NULL,
    first_run_id    integer NOT NULL,
    open_runs       integer NOT NULL,
    last_event_id   integer NOT NULL,
    last_message_id integer NOT NULL,
    purged_event_id integer NOT NULL DEFAULT 0
);

CREATE TABLE {{.Prefix}}runs (
    id                integer PRIMARY KEY AUTOINCREMENT,
    run_key           text NOT NULL UNIQUE,
    conversation_id   integer NOT NULL,
    assistant_id      text NOT NULL,
    key_id            integer NOT NULL,
    task              text,
    context           text,
    base_url          text NOT NULL,
    callback_url      text NOT NULL,
    callback_host     text NOT NULL,
    trace_parent      text NOT NULL,
    message_id        integer NOT NULL,
    first_event_id    integer NOT NULL,
    created_at        integer     NOT NULL,
    status            text,
    status_detail     text NOT NULL DEFAULT '',
    error_message     text NOT NULL DEFAULT '',
    input_tokens      integer,
    output_tokens     integer,
    attempts          integer,
    started_at        integer    ,
    completed_at      integer    ,
    result_message_id integer,
    callback_delivery_id integer NOT NULL DEFAULT 0,
    callback_state       text NOT NULL DEFAULT '',
    callback_http_status integer NOT NULL DEFAULT 0,
    callback_error_class text NOT NULL DEFAULT '',
    callback_at          integer,
    purged_event_id      integer NOT NULL DEFAULT 0,
    events_purged        boolean NOT NULL DEFAULT false,
    purged_sequence      integer NOT NULL DEFAULT 0
);
CREATE INDEX {{.Index}}runs_assistant ON {{.Prefix}}runs (assistant_id, id);

CREATE TABLE {{.Prefix}}queue (
    run_id              integer PRIMARY KEY,
    conversation_id     integer NOT NULL,
    native              boolean NOT NULL,
    leased              boolean NOT NULL,
    token               integer NOT NULL,
    batch               integer NOT NULL,
    attempts            integer NOT NULL,
    last_sequence       integer NOT NULL,
    waits_since         integer     NOT NULL,
    started_at          integer    ,
    expires_at          integer    ,
    worker              text NOT NULL,
    stop_status         text,
    stop_detail         text,
    stop_error          text
);
CREATE INDEX {{.Index}}queue_waiting ON {{.Prefix}}queue (run_id) WHERE NOT leased AND native;
CREATE INDEX {{.Index}}queue_waits_since ON {{.Prefix}}queue (waits_since) WHERE NOT leased;
CREATE INDEX {{.Index}}queue_leased ON {{.Prefix}}queue (run_id) WHERE leased;

CREATE TABLE {{.Prefix}}unsuccessful (
    status text NOT NULL,
    run_id integer NOT NULL,
    PRIMARY KEY (status, run_id)
) WITHOUT ROWID;
CREATE INDEX {{.Index}}runs_key ON {{.Prefix}}runs (key_id, id) WHERE key_id <> 0;
ALTER TABLE {{.Prefix}}queue ADD COLUMN bounded_for text;
CREATE INDEX {{.Index}}queue_bounded ON {{.Prefix}}queue (bounded_for) WHERE NOT leased AND bounded_for IS NOT NULL;
ALTER TABLE {{.Prefix}}runs ADD COLUMN request_id text NOT NULL DEFAULT '';
