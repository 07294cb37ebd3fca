-- Rows wait here for the sequencer. Enlisting is one plain INSERT into one index: what is personal about a row travels
-- with it and is moved to its own, erasable place when the row is chained. `n` is the order of enlistment.
-- Rows that are here already keep their place in the order; what is personal about them stands in the side tables already.
ALTER TABLE audit.pending
    ADD COLUMN n           bigint GENERATED ALWAYS AS IDENTITY,
    ADD COLUMN enlisted_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN subject_id  uuid,
    ADD COLUMN salt        bytea CHECK (octet_length(salt) = 32),
    ADD COLUMN ip          text,
    ADD COLUMN user_agent  text CHECK (octet_length(user_agent) <= 256);
ALTER TABLE audit.pending DROP CONSTRAINT pending_pkey;
DROP INDEX audit.pending_chain;
ALTER TABLE audit.pending ADD PRIMARY KEY (chain, n);
-- The same rules, without counted repetitions: PostgreSQL takes tens of microseconds for one of those, on every row.
ALTER TABLE audit.pending
    DROP CONSTRAINT pending_relation_check,
    DROP CONSTRAINT pending_correlation_id_check,
    ADD CONSTRAINT pending_relation_check
        CHECK (octet_length(relation) <= 128 AND relation ~ '^[a-z][a-z0-9_.-]*$'),
    ADD CONSTRAINT pending_correlation_id_check
        CHECK (octet_length(correlation_id) <= 128 AND correlation_id ~ '^[A-Za-z0-9._:-]+$');
-- The table is a queue: it is emptied as fast as it is filled, so its dead rows are cleared by number, not by share.
ALTER TABLE audit.pending SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_vacuum_insert_scale_factor = 1
);

-- One row per chain: where it ends. It changes together with the rows that are appended, and shows when a tail was cut.
CREATE TABLE audit.chain_heads (
    chain     uuid PRIMARY KEY,
    last_seq  bigint NOT NULL DEFAULT 0 CHECK (last_seq >= 0),
    last_hash bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex') CHECK (octet_length(last_hash) = 32),
    -- Identities erased on this chain: while there are none, the sequencer looks for no tombstones.
    erasures  bigint NOT NULL DEFAULT 0
);

-- The log. `canonical` are the bytes that were hashed; the columns before it say the same for reading and filtering.
CREATE TABLE audit.entries (
    chain          uuid NOT NULL,
    seq            bigint NOT NULL CHECK (seq >= 1),
    -- Names the row of request_contexts. Not hashed: `ctx` is, and a context that does not fit it is not shown.
    entry          uuid NOT NULL,
    subject        bytea NOT NULL CHECK (octet_length(subject) = 32),
    relation       text NOT NULL,
    object_type    text NOT NULL,
    object_id      text NOT NULL,
    reason         text NOT NULL,
    caveat_names   text NOT NULL,
    correlation_id text NOT NULL,
    ctx            bytea NOT NULL CHECK (octet_length(ctx) = 32),
    occurred_at    timestamptz NOT NULL,
    repeated       integer NOT NULL,
    prev_hash      bytea NOT NULL CHECK (octet_length(prev_hash) = 32),
    entry_hash     bytea NOT NULL CHECK (octet_length(entry_hash) = 32),
    canonical      bytea NOT NULL,
    PRIMARY KEY (chain, seq)
);
CREATE INDEX entries_subject ON audit.entries (chain, subject, seq);
CREATE INDEX entries_object ON audit.entries (chain, object_id, seq);
CREATE INDEX entries_correlation ON audit.entries (chain, correlation_id, seq);
CREATE INDEX entries_refused ON audit.entries (chain, seq) WHERE reason <> 'granted';
CREATE INDEX entries_time ON audit.entries USING brin (occurred_at) WITH (pages_per_range = 32);

-- Whoever connects: rows of the log are added and read, nothing else.
CREATE FUNCTION audit.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of %.% are never changed or removed', TG_TABLE_SCHEMA, TG_TABLE_NAME USING ERRCODE = '42501';
END $$;
CREATE TRIGGER entries_are_final BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.entries
    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
REVOKE UPDATE, DELETE, TRUNCATE ON audit.entries FROM PUBLIC;

-- A head only moves forward, and never goes away.
CREATE FUNCTION audit.move_forward() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.chain <> OLD.chain OR NEW.last_seq < OLD.last_seq
        OR (NEW.last_seq = OLD.last_seq AND NEW.last_hash <> OLD.last_hash) THEN
        RAISE EXCEPTION 'the head of an audit chain only moves forward' USING ERRCODE = '42501';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER heads_move_forward BEFORE UPDATE ON audit.chain_heads
    FOR EACH ROW EXECUTE FUNCTION audit.move_forward();
CREATE TRIGGER heads_stay BEFORE DELETE OR TRUNCATE ON audit.chain_heads
    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();

-- A context is found by its entry alone; whose it is, the entry says.
DROP INDEX audit.request_contexts_subject;
ALTER TABLE audit.request_contexts DROP COLUMN chain, DROP COLUMN subject;

-- Copies in the object store: each row covers consecutive entries of one chain, without gaps between rows. A segment is
-- written down before it is uploaded, so that an upload that is repeated has the same name and the same bytes.
CREATE TABLE audit.segments (
    chain       uuid NOT NULL,
    first_seq   bigint NOT NULL CHECK (first_seq >= 1),
    last_seq    bigint NOT NULL CHECK (last_seq >= first_seq),
    etag        text,
    archived_at timestamptz,
    PRIMARY KEY (chain, first_seq),
    CHECK ((etag IS NULL) = (archived_at IS NULL))
);

-- What the last verifications of a chain found.
CREATE TABLE audit.verifications (
    chain         uuid PRIMARY KEY,
    whole_at      timestamptz,
    newest_at     timestamptz,
    verified_to   bigint NOT NULL DEFAULT 0,
    divergent_seq bigint
);
