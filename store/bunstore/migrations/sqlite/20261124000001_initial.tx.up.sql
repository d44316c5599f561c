-- As the Postgres schema, with times in microseconds since 1970.

-- What an assistant's channel accepts.
CREATE TABLE IF NOT EXISTS {{.Prefix}}channels (
    assistant_id        text PRIMARY KEY,
    enabled             boolean NOT NULL,
    allow_callback_urls boolean NOT NULL,
    signing_secrets     text NOT NULL DEFAULT '' -- Standard Webhooks secrets with a blank between; '': none
);

CREATE TABLE IF NOT EXISTS {{.Prefix}}api_keys (
    id           integer PRIMARY KEY AUTOINCREMENT,
    assistant_id text NOT NULL,
    name         text NOT NULL,
    prefix       text NOT NULL,
    hash         blob  NOT NULL UNIQUE, -- SHA-256; the key itself is stored nowhere
    created_at   integer     NOT NULL,
    expires_at   integer    ,           -- NULL: never
    revoked_at   integer                -- NULL: not revoked
);
CREATE INDEX IF NOT EXISTS {{.Index}}api_keys_assistant ON {{.Prefix}}api_keys (assistant_id, id);

CREATE TABLE IF NOT EXISTS {{.Prefix}}task_definitions (
    id            integer PRIMARY KEY AUTOINCREMENT,
    assistant_id  text NOT NULL,
    name          text NOT NULL,
    instructions  text NOT NULL,
    output_type   text NOT NULL,
    allowed_tools text NOT NULL, -- a JSON array
    output_schema text,          -- NULL: any
    active        boolean NOT NULL,
    created_at    integer     NOT NULL,
    updated_at    integer     NOT NULL
);
CREATE INDEX IF NOT EXISTS {{.Index}}task_definitions_assistant ON {{.Prefix}}task_definitions (assistant_id, id);

-- A conversation and the counters that its runs share.
CREATE TABLE IF NOT EXISTS {{.Prefix}}conversations (
    id              integer PRIMARY KEY AUTOINCREMENT,
    assistant_id    text NOT NULL,
    subject         text NOT NULL,
    metadata        text,            -- as sent; NULL: none
    created_at      integer     NOT NULL,
    first_run_id    integer NOT NULL, -- the run that started it
    open_runs       integer NOT NULL, -- runs that have not ended
    last_event_id   integer NOT NULL,
    last_message_id integer NOT NULL,
    purged_event_id integer NOT NULL DEFAULT 0 -- events up to this one are purged
);

-- A run. It is written twice: at accept, and when it ends. Its changes in
-- between are in the queue table.
CREATE TABLE IF NOT EXISTS {{.Prefix}}runs (
    id                integer PRIMARY KEY AUTOINCREMENT,
    run_key           text NOT NULL UNIQUE,
    conversation_id   integer NOT NULL,
    assistant_id      text NOT NULL,
    key_id            integer NOT NULL, -- 0: a call from Go
    task              text,            -- the definition as it was at accept, as JSON; NULL: none
    context           text,            -- as sent; NULL: none
    base_url          text NOT NULL,
    callback_url      text NOT NULL,   -- '': none
    callback_host     text NOT NULL,
    trace_parent      text NOT NULL,   -- '': none
    message_id        integer NOT NULL, -- the message that it answers
    first_event_id    integer NOT NULL,
    created_at        integer     NOT NULL,
    status            text,            -- NULL: not ended
    status_detail     text NOT NULL DEFAULT '',
    error_message     text NOT NULL DEFAULT '',
    input_tokens      integer,          -- NULL: usage is not known
    output_tokens     integer,
    attempts          integer,
    started_at        integer    ,     -- of the last attempt; NULL: never taken
    completed_at      integer    ,
    result_message_id integer, -- the message that is the result; NULL: none
    -- the last outcome of a delivery, which the run mirrors
    callback_delivery_id integer NOT NULL DEFAULT 0,
    callback_state       text NOT NULL DEFAULT '',
    callback_http_status integer NOT NULL DEFAULT 0,
    callback_error_class text NOT NULL DEFAULT '',
    callback_at          integer,
    -- events of the run up to this one are purged
    purged_event_id      integer NOT NULL DEFAULT 0,
    events_purged        boolean NOT NULL DEFAULT false, -- all of them
    purged_sequence      integer NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS {{.Index}}runs_assistant ON {{.Prefix}}runs (assistant_id, id);

-- The unfinished runs: waiting to be taken, or held under a lease. A row comes at
-- accept and goes at the end; heartbeats write here and nowhere else.
CREATE TABLE IF NOT EXISTS {{.Prefix}}queue (
    run_id              integer PRIMARY KEY,
    conversation_id     integer NOT NULL,
    native              boolean NOT NULL,      -- false: another engine hands it out
    leased              boolean NOT NULL,
    token               integer NOT NULL,       -- fencing token: rises with each taking
    batch               integer NOT NULL,       -- number of the last event batch stored under the token
    attempts            integer NOT NULL,
    last_sequence       integer NOT NULL,       -- of the run's events
    waits_since         integer     NOT NULL,  -- last queued
    started_at          integer    ,           -- last taken
    expires_at          integer    ,           -- when the last lease ends
    worker              text NOT NULL,         -- who holds it, for operators
    stop_status         text,                  -- a recorded stop; NULL: none
    stop_detail         text,
    stop_error          text
);
CREATE INDEX IF NOT EXISTS {{.Index}}queue_waiting ON {{.Prefix}}queue (run_id) WHERE NOT leased AND native;
CREATE INDEX IF NOT EXISTS {{.Index}}queue_waits_since ON {{.Prefix}}queue (waits_since) WHERE NOT leased;
CREATE INDEX IF NOT EXISTS {{.Index}}queue_leased ON {{.Prefix}}queue (run_id) WHERE leased;

CREATE TABLE IF NOT EXISTS {{.Prefix}}messages (
    conversation_id integer NOT NULL,
    id              integer NOT NULL, -- counts within the conversation
    run_id          integer NOT NULL,
    role            text NOT NULL,
    content         text NOT NULL,
    created_at      integer     NOT NULL,
    PRIMARY KEY (conversation_id, id)
);

CREATE TABLE IF NOT EXISTS {{.Prefix}}events (
    conversation_id integer NOT NULL,
    id              integer NOT NULL, -- counts within the conversation
    run_id          integer NOT NULL,
    sequence        integer NOT NULL, -- counts within the run
    type            text NOT NULL,
    payload         text NOT NULL,
    created_at      integer     NOT NULL,
    PRIMARY KEY (conversation_id, id)
);

-- The outbox of callbacks, and their log.
CREATE TABLE IF NOT EXISTS {{.Prefix}}deliveries (
    id           integer PRIMARY KEY AUTOINCREMENT,
    run_id       integer NOT NULL,
    host         text NOT NULL,
    state        text NOT NULL,
    retry        integer NOT NULL,
    token        integer NOT NULL DEFAULT 0, -- rises with each lease
    leased_until integer,
    created_at   integer NOT NULL,
    due_at       integer NOT NULL,
    attempted_at integer,
    completed_at integer,
    http_status  integer NOT NULL DEFAULT 0,
    latency_us   integer NOT NULL DEFAULT 0,
    error_class  text NOT NULL DEFAULT '',
    error        text NOT NULL DEFAULT '',
    response     text NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS {{.Index}}deliveries_run ON {{.Prefix}}deliveries (run_id, id);
CREATE UNIQUE INDEX IF NOT EXISTS {{.Index}}deliveries_open ON {{.Prefix}}deliveries (run_id) WHERE state IN ('pending', 'sending');
CREATE INDEX IF NOT EXISTS {{.Index}}deliveries_pending ON {{.Prefix}}deliveries (host, due_at, id) WHERE state = 'pending';
CREATE INDEX IF NOT EXISTS {{.Index}}deliveries_sending ON {{.Prefix}}deliveries (attempted_at) WHERE state = 'sending';

CREATE TABLE IF NOT EXISTS {{.Prefix}}idempotency_keys (
    assistant_id text NOT NULL,
    key          text NOT NULL,
    body_hash    blob  NOT NULL,
    run_id       integer NOT NULL,
    expires_at   integer     NOT NULL,
    PRIMARY KEY (assistant_id, key)
);
CREATE INDEX IF NOT EXISTS {{.Index}}idempotency_keys_expires ON {{.Prefix}}idempotency_keys (expires_at);
CREATE INDEX IF NOT EXISTS {{.Index}}idempotency_keys_run ON {{.Prefix}}idempotency_keys (run_id);
