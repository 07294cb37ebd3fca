CREATE SCHEMA signing;

-- The key line of each Domain. The private half is wrapped; a destroyed key has none.
CREATE TABLE signing.keys (
    id                 uuid PRIMARY KEY,
    domain_id          uuid NOT NULL,
    version            integer NOT NULL CHECK (version > 0),
    kid                text NOT NULL UNIQUE,
    public_key         bytea NOT NULL CHECK (octet_length(public_key) = 32),
    custody            text NOT NULL DEFAULT 'wrapped' CHECK (custody IN ('wrapped')),
    wrapped_seed       bytea,
    wrap_key_version   integer,
    state              text NOT NULL CHECK (state IN ('current', 'previous', 'retired', 'destroyed')),
    created_at         timestamptz NOT NULL,
    activated_at       timestamptz NOT NULL,
    transition_expires timestamptz,
    retired_at         timestamptz,
    destroyed_at       timestamptz,
    destroy_reason     text,
    created_by         uuid NOT NULL,
    UNIQUE (domain_id, version),
    CHECK ((state = 'destroyed') = (wrapped_seed IS NULL)),
    CHECK ((wrapped_seed IS NULL) = (wrap_key_version IS NULL)),
    CHECK (state <> 'previous' OR transition_expires IS NOT NULL),
    CHECK (state <> 'current' OR transition_expires IS NULL)
);
CREATE UNIQUE INDEX keys_one_current ON signing.keys (domain_id) WHERE state = 'current';
CREATE UNIQUE INDEX keys_one_previous ON signing.keys (domain_id) WHERE state = 'previous';
CREATE INDEX keys_transition ON signing.keys (transition_expires) WHERE state = 'previous';

-- The key under which a Domain's events are signed now, and where its last rotation stands in the stream.
CREATE TABLE signing.domains (
    domain_id     uuid PRIMARY KEY,
    announced_kid text NOT NULL,
    announced_seq bigint NOT NULL DEFAULT 0 CHECK (announced_seq >= 0)
);
