CREATE SCHEMA audit;

-- Rows that are durable and not chained yet. Nothing in here names a person: subjects, and objects that are persons, are
-- pseudonyms, and where a request came from is a commitment.
CREATE TABLE audit.pending (
    id             uuid PRIMARY KEY,
    chain          uuid NOT NULL,
    subject        bytea NOT NULL CHECK (octet_length(subject) = 32),
    relation       text NOT NULL CHECK (relation ~ '^[a-z][a-z0-9_.-]{0,127}$'),
    object_type    text NOT NULL,
    object_id      text NOT NULL,
    reason         text NOT NULL CHECK (reason IN ('granted', 'out_of_scope', 'insufficient_relation', 'caveat_violation')),
    caveat_names   text NOT NULL DEFAULT '{}',
    correlation_id text NOT NULL CHECK (correlation_id ~ '^[A-Za-z0-9._:-]{1,128}$'),
    ctx            bytea NOT NULL CHECK (octet_length(ctx) = 32),
    occurred_at    timestamptz NOT NULL,
    repeated       integer NOT NULL DEFAULT 0
);
CREATE INDEX pending_chain ON audit.pending (chain, id);

-- What a commitment stands for. Erasable: clearing a row breaks no hash.
CREATE TABLE audit.request_contexts (
    entry      uuid PRIMARY KEY,
    chain      uuid NOT NULL,
    subject    bytea NOT NULL,
    salt       bytea CHECK (octet_length(salt) = 32),
    ip         text,
    user_agent text CHECK (octet_length(user_agent) <= 256)
);
CREATE INDEX request_contexts_subject ON audit.request_contexts (chain, subject);

-- From a pseudonym to who it is. A tombstone, without the id, keeps later rows from making the mapping again.
CREATE TABLE audit.subject_pii (
    chain      uuid NOT NULL,
    pseudonym  bytea NOT NULL,
    subject_id uuid,
    erased_at  timestamptz,
    PRIMARY KEY (chain, pseudonym),
    CHECK ((subject_id IS NULL) = (erased_at IS NOT NULL))
);

-- Messages of edges that were written, so that a redelivery writes nothing.
CREATE TABLE audit.intake_seen (
    message text PRIMARY KEY,
    seen_at timestamptz NOT NULL
);
CREATE INDEX intake_seen_at ON audit.intake_seen (seen_at);
