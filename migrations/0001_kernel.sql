CREATE SCHEMA kernel;

-- One row for ever: which installation this database belongs to.
CREATE TABLE kernel.installation (
    singleton     boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    deployment_id uuid NOT NULL
);

-- Events, written in the producer's transaction and relayed afterwards.
-- txid and seq together give commit-safe order: rows below the snapshot's xmin can no longer be overtaken.
CREATE TABLE kernel.outbox (
    id              uuid PRIMARY KEY,
    seq             bigint GENERATED ALWAYS AS IDENTITY,
    txid            xid8 NOT NULL DEFAULT pg_current_xact_id(),
    domain_id       uuid,
    context         text NOT NULL,
    event_name      text NOT NULL,
    wire_type       text,
    target_node_id  uuid,
    payload         json NOT NULL,
    created_at      timestamptz NOT NULL,
    batch_id        uuid,
    state           text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'sealed', 'parked')),
    attempts        integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz,
    last_error      text,
    published_at    timestamptz,
    CHECK (wire_type IS NULL OR domain_id IS NOT NULL)
);
CREATE INDEX outbox_unpublished ON kernel.outbox (txid, seq) WHERE published_at IS NULL AND state <> 'parked';
CREATE INDEX outbox_batch ON kernel.outbox (batch_id) WHERE batch_id IS NOT NULL;
CREATE INDEX outbox_published ON kernel.outbox (published_at) WHERE published_at IS NOT NULL;

-- What was sealed under one envelope id: a retry carries the same content under the same id.
CREATE TABLE kernel.outbox_batches (
    id             uuid PRIMARY KEY,
    domain_id      uuid NOT NULL,
    wire_type      text NOT NULL,
    target_node_id uuid,
    payload        text NOT NULL,
    sealed_at      timestamptz NOT NULL
);

-- Keys of the edge directory whose entries changed, until the projector has written them.
CREATE TABLE kernel.directory_changes (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL
);
CREATE INDEX directory_changes_key ON kernel.directory_changes (key);
