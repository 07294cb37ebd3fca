-- Equality on uuid inside a GiST exclusion constraint needs this contrib module (trusted since PostgreSQL 13).
CREATE EXTENSION IF NOT EXISTS btree_gist;

CREATE SCHEMA identity;

-- === Tenancy ===

CREATE TABLE identity.domains (
    id                    uuid PRIMARY KEY,
    name                  text NOT NULL,
    slug                  text COLLATE "C" NOT NULL,
    description           text NOT NULL DEFAULT '',
    region                text,
    mesh_cidr             cidr NOT NULL,
    heartbeat_interval_ns bigint NOT NULL,
    stale_after_ns        bigint NOT NULL,
    unreachable_after_ns  bigint NOT NULL,
    created_at            timestamptz NOT NULL,
    updated_at            timestamptz NOT NULL,
    CONSTRAINT domains_slug_key UNIQUE (slug),
    CONSTRAINT domains_mesh_cidr_excl EXCLUDE USING gist (mesh_cidr inet_ops WITH &&)
);

CREATE TABLE identity.projects (
    id          uuid PRIMARY KEY,
    domain_id   uuid NOT NULL CONSTRAINT projects_domain_fkey REFERENCES identity.domains (id),
    name        text NOT NULL,
    slug        text COLLATE "C" NOT NULL,
    description text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    CONSTRAINT projects_slug_key UNIQUE (domain_id, slug)
);
CREATE INDEX projects_by_slug ON identity.projects (slug, id);

-- At most one reservation per Project; no two of a Domain overlap.
CREATE TABLE identity.sub_ranges (
    project_id uuid PRIMARY KEY REFERENCES identity.projects (id) ON DELETE CASCADE,
    domain_id  uuid NOT NULL REFERENCES identity.domains (id),
    range      cidr NOT NULL,
    CONSTRAINT sub_ranges_excl EXCLUDE USING gist (domain_id WITH =, range inet_ops WITH &&)
);

CREATE TABLE identity.resources (
    id           uuid PRIMARY KEY,
    project_id   uuid NOT NULL CONSTRAINT resources_project_fkey REFERENCES identity.projects (id),
    domain_id    uuid NOT NULL,
    kind         text NOT NULL,
    origin       text NOT NULL CHECK (origin IN ('adopted', 'provisioned')),
    external_ref text,
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL,
    CONSTRAINT resources_external_ref_key UNIQUE (project_id, external_ref)
);
CREATE INDEX resources_by_creation ON identity.resources (project_id, created_at, id);

-- === Principals ===

-- The null Domain is a value here: platform-scoped people are unique by issuer and subject too.
CREATE TABLE identity.users (
    id               uuid PRIMARY KEY,
    domain_id        uuid CONSTRAINT users_domain_fkey REFERENCES identity.domains (id),
    issuer           text NOT NULL,
    external_subject text NOT NULL,
    email            text,
    email_verified   boolean NOT NULL DEFAULT false,
    display_name     text NOT NULL,
    created_at       timestamptz NOT NULL,
    last_sign_in_at  timestamptz,
    CONSTRAINT users_subject_key UNIQUE NULLS NOT DISTINCT (domain_id, issuer, external_subject)
);

CREATE TABLE identity.platform_admins (
    user_id    uuid PRIMARY KEY REFERENCES identity.users (id),
    granted_at timestamptz NOT NULL
);

-- Digests only. The previous digest is good until previous_until, at most 24 h after a rotation.
CREATE TABLE identity.api_tokens (
    id              uuid PRIMARY KEY,
    user_id         uuid NOT NULL REFERENCES identity.users (id),
    env_prefix      text NOT NULL,
    digest          bytea NOT NULL CHECK (length(digest) = 32),
    previous_digest bytea CHECK (length(previous_digest) = 32),
    previous_until  timestamptz,
    ttl_seconds     bigint NOT NULL CHECK (ttl_seconds > 0),
    created_at      timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    rotated_at      timestamptz,
    last_used_at    timestamptz,
    revoked_at      timestamptz,
    CHECK ((previous_digest IS NULL) = (previous_until IS NULL))
);
CREATE INDEX api_tokens_of_user ON identity.api_tokens (user_id, created_at DESC, id DESC);
CREATE INDEX api_tokens_by_end ON identity.api_tokens (expires_at);

-- One row for ever: how the first administrator came to be, and whether that door is closed.
CREATE TABLE identity.installation (
    singleton          boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    bootstrap_user_id  uuid REFERENCES identity.users (id),
    bootstrap_token_id uuid,
    closed_at          timestamptz
);

-- === Enrolment ===

CREATE TABLE identity.bootstrap_tokens (
    id                  uuid PRIMARY KEY,
    project_id          uuid NOT NULL
        CONSTRAINT bootstrap_tokens_project_fkey REFERENCES identity.projects (id) ON DELETE CASCADE,
    domain_id           uuid NOT NULL,
    kind                text NOT NULL CHECK (kind IN ('node', 'bridge')),
    env_prefix          text NOT NULL,
    hash                text NOT NULL,
    lookup_tag          bytea NOT NULL CONSTRAINT bootstrap_tokens_lookup_tag_key UNIQUE,
    issued_at           timestamptz NOT NULL,
    expires_at          timestamptz NOT NULL,
    issued_by_user_id   uuid NOT NULL,
    consumed_at         timestamptz,
    consumed_by_node_id uuid,
    consumed_nonce      text,
    revoked_at          timestamptz,
    revoked_by          uuid,
    CHECK (consumed_at IS NULL OR revoked_at IS NULL),
    CHECK ((consumed_at IS NULL) = (consumed_by_node_id IS NULL)),
    CHECK ((consumed_at IS NULL) = (consumed_nonce IS NULL))
);
-- A nonce may have 4,096 characters, which is more than an index entry holds, so its digest is what is unique.
-- Converting to UTF-8 is immutable for a given encoding of the database, which PostgreSQL cannot know by itself.
CREATE FUNCTION identity.nonce_digest(nonce text) RETURNS bytea
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN sha256(convert_to(nonce, 'UTF8'));
CREATE UNIQUE INDEX bootstrap_tokens_nonce_key
    ON identity.bootstrap_tokens (project_id, identity.nonce_digest(consumed_nonce))
    WHERE consumed_nonce IS NOT NULL;
CREATE INDEX bootstrap_tokens_by_issue ON identity.bootstrap_tokens (project_id, issued_at, id);

-- No foreign key to the Resource: an ended Node outlives it, so that its key reads as revoked for 30 days.
CREATE TABLE identity.nodes (
    id                    uuid PRIMARY KEY,
    domain_id             uuid NOT NULL,
    project_id            uuid NOT NULL,
    resource_id           uuid NOT NULL,
    public_key            bytea NOT NULL CHECK (length(public_key) = 32),
    mesh_ip               inet NOT NULL,
    pinned_signing_key_id text NOT NULL,
    created_at            timestamptz NOT NULL,
    deregistered_at       timestamptz,
    deregister_reason     text,
    CHECK ((deregistered_at IS NULL) = (deregister_reason IS NULL))
);
CREATE UNIQUE INDEX nodes_live_key ON identity.nodes (domain_id, public_key) WHERE deregistered_at IS NULL;
CREATE UNIQUE INDEX nodes_live_address ON identity.nodes (domain_id, mesh_ip) WHERE deregistered_at IS NULL;
CREATE INDEX nodes_of_resource ON identity.nodes (resource_id) WHERE deregistered_at IS NULL;
CREATE INDEX nodes_of_project ON identity.nodes (project_id) WHERE deregistered_at IS NULL;

CREATE TABLE identity.node_secret_keys (
    kid              text PRIMARY KEY,
    node_id          uuid NOT NULL REFERENCES identity.nodes (id),
    wrapped          bytea NOT NULL,
    wrap_key_version integer NOT NULL,
    digest           bytea NOT NULL CHECK (length(digest) = 32),
    created_at       timestamptz NOT NULL,
    revoked_at       timestamptz,
    revoke_reason    text,
    CHECK ((revoked_at IS NULL) = (revoke_reason IS NULL))
);
CREATE INDEX node_secret_keys_of_node ON identity.node_secret_keys (node_id);
CREATE INDEX node_secret_keys_revoked ON identity.node_secret_keys (revoked_at) WHERE revoked_at IS NOT NULL;
