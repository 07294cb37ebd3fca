-- Short-lived credentials of people and services, and the flows that end in one. Digests only.

CREATE TABLE identity.sessions (
    digest       bytea PRIMARY KEY CHECK (length(digest) = 32),
    user_id      uuid NOT NULL REFERENCES identity.users (id) ON DELETE CASCADE,
    binding_id   uuid NOT NULL,
    acr          text,
    amr          text[] NOT NULL DEFAULT '{}' CHECK (cardinality(amr) <= 16),
    auth_time    timestamptz,
    created_at   timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    revoked_at   timestamptz
);
CREATE INDEX sessions_of_user ON identity.sessions (user_id, created_at DESC) WHERE revoked_at IS NULL;
CREATE INDEX sessions_of_binding ON identity.sessions (binding_id) WHERE revoked_at IS NULL;
CREATE INDEX sessions_by_end ON identity.sessions (expires_at);

CREATE TABLE identity.access_tokens (
    id         uuid PRIMARY KEY,
    digest     bytea NOT NULL CHECK (length(digest) = 32),
    -- A person by the device flow, or a service identity by the service flow.
    user_id    uuid REFERENCES identity.users (id) ON DELETE CASCADE,
    service_id uuid,
    domain_id  uuid,
    binding_id uuid,
    acr        text,
    amr        text[] NOT NULL DEFAULT '{}' CHECK (cardinality(amr) <= 16),
    auth_time  timestamptz,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    CHECK (num_nonnulls(user_id, service_id) = 1)
);
CREATE INDEX access_tokens_of_user ON identity.access_tokens (user_id) WHERE revoked_at IS NULL;
CREATE INDEX access_tokens_of_binding ON identity.access_tokens (binding_id) WHERE revoked_at IS NULL;
CREATE INDEX access_tokens_by_end ON identity.access_tokens (expires_at);

-- A sign-in that a browser began. The state is the browser's, the verifier opens the provider's answer: one is stored as a
-- digest, the other sealed.
CREATE TABLE identity.auth_flows (
    state_digest     bytea PRIMARY KEY CHECK (length(state_digest) = 32),
    binding_id       uuid NOT NULL,
    domain_id        uuid,
    nonce            text NOT NULL,
    verifier_version integer NOT NULL,
    verifier         bytea NOT NULL,
    return_to        text NOT NULL,
    -- The person was to sign in anew, not earlier than the flow began.
    prompted_login   boolean NOT NULL,
    created_at       timestamptz NOT NULL,
    expires_at       timestamptz NOT NULL
);
CREATE INDEX auth_flows_by_end ON identity.auth_flows (expires_at);
CREATE INDEX auth_flows_of_binding ON identity.auth_flows (binding_id);

-- A device that asks a person for access (RFC 8628).
CREATE TABLE identity.device_sessions (
    device_digest    bytea PRIMARY KEY CHECK (length(device_digest) = 32),
    user_code        text COLLATE "C" NOT NULL,
    binding_id       uuid NOT NULL,
    domain_id        uuid,
    state            text NOT NULL CHECK (state IN ('pending', 'approved', 'denied', 'consumed')),
    interval_seconds integer NOT NULL CHECK (interval_seconds > 0),
    last_poll_at     timestamptz,
    user_id          uuid REFERENCES identity.users (id) ON DELETE CASCADE,
    acr              text,
    amr              text[] NOT NULL DEFAULT '{}' CHECK (cardinality(amr) <= 16),
    auth_time        timestamptz,
    created_at       timestamptz NOT NULL,
    expires_at       timestamptz NOT NULL,
    CHECK ((state IN ('approved', 'consumed')) <= (user_id IS NOT NULL)),
    CONSTRAINT device_sessions_user_code_key UNIQUE (user_code)
);
CREATE INDEX device_sessions_by_end ON identity.device_sessions (expires_at);

-- Assertions are good once until they end by themselves.
CREATE TABLE identity.used_assertions (
    digest     bytea PRIMARY KEY CHECK (length(digest) = 32),
    expires_at timestamptz NOT NULL
);
CREATE INDEX used_assertions_by_end ON identity.used_assertions (expires_at);
