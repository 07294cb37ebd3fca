-- === Identity-provider bindings ===

-- A binding without a Domain is the platform's. The version moves with every change: two writers that read the same one
-- cannot both win.
CREATE TABLE identity.idp_bindings (
    id                uuid PRIMARY KEY,
    domain_id         uuid CONSTRAINT idp_bindings_domain_fkey REFERENCES identity.domains (id),
    issuer            text NOT NULL,
    client_id         text NOT NULL,
    client_secret_ref text NOT NULL,
    discovery_url     text NOT NULL,
    claim_mappings    jsonb NOT NULL CHECK (jsonb_typeof(claim_mappings) = 'object'),
    required_acr      text[] NOT NULL CHECK (cardinality(required_acr) <= 16),
    required_amr      text[] NOT NULL CHECK (cardinality(required_amr) <= 16),
    jit_policy        text NOT NULL CHECK (jit_policy IN ('allow', 'deny')),
    alias             text COLLATE "C",
    is_primary        boolean NOT NULL,
    status            text NOT NULL CHECK (status IN ('active', 'inactive', 'degraded', 'deactivated')),
    version           bigint NOT NULL DEFAULT 1,
    created_at        timestamptz NOT NULL,
    updated_at        timestamptz NOT NULL,
    -- A Domain's binding reaches that Domain's secrets only; the server's own are for the platform's.
    CONSTRAINT idp_bindings_reach_check CHECK (
        (domain_id IS NULL) <> starts_with(client_secret_ref, 'secret:')
        AND (domain_id IS NULL OR starts_with(client_secret_ref, 'secret:' || domain_id::text || '/'))),
    CONSTRAINT idp_bindings_primary_check CHECK (domain_id IS NOT NULL OR NOT is_primary)
);
-- An issuer may be longer than an index entry. What must be unique is so among bindings that are not deactivated; the
-- platform counts as one owner.
CREATE UNIQUE INDEX idp_bindings_live_issuer ON identity.idp_bindings (domain_id, identity.text_digest(issuer))
    NULLS NOT DISTINCT WHERE status <> 'deactivated';
CREATE UNIQUE INDEX idp_bindings_live_alias ON identity.idp_bindings (domain_id, alias)
    NULLS NOT DISTINCT WHERE status <> 'deactivated' AND alias IS NOT NULL;
CREATE UNIQUE INDEX idp_bindings_live_primary ON identity.idp_bindings (domain_id)
    WHERE status <> 'deactivated' AND is_primary;
CREATE INDEX idp_bindings_by_owner ON identity.idp_bindings (domain_id, created_at, id);

-- === Groups ===

CREATE TABLE identity.groups (
    id              uuid PRIMARY KEY,
    domain_id       uuid NOT NULL CONSTRAINT groups_domain_fkey REFERENCES identity.domains (id),
    slug            text COLLATE "C" NOT NULL,
    display_name    text NOT NULL,
    source          text NOT NULL CHECK (source IN ('manual', 'idp')),
    idp_binding_id  uuid CONSTRAINT groups_binding_fkey REFERENCES identity.idp_bindings (id),
    idp_claim_value text,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    CONSTRAINT groups_slug_key UNIQUE (domain_id, slug),
    CHECK ((source = 'idp') = (idp_binding_id IS NOT NULL)),
    CHECK ((source = 'idp') = (idp_claim_value IS NOT NULL))
);
CREATE INDEX groups_of_binding ON identity.groups (idp_binding_id) WHERE idp_binding_id IS NOT NULL;

-- A member is a User, a ServiceIdentity or another Group, so no foreign key can stand on it; the writer locks its row.
CREATE TABLE identity.memberships (
    group_id       uuid NOT NULL CONSTRAINT memberships_group_fkey REFERENCES identity.groups (id),
    principal_kind text COLLATE "C" NOT NULL CHECK (principal_kind IN ('user', 'service_identity', 'group')),
    principal_id   uuid NOT NULL,
    source         text NOT NULL CHECK (source IN ('manual', 'idp')),
    created_at     timestamptz NOT NULL,
    CONSTRAINT memberships_pkey PRIMARY KEY (group_id, principal_kind, principal_id),
    CONSTRAINT memberships_self_check CHECK (principal_kind <> 'group' OR principal_id <> group_id)
);
CREATE INDEX memberships_of_principal ON identity.memberships (principal_id, principal_kind);

-- === API tokens of ServiceIdentities ===

ALTER TABLE identity.api_tokens
    ALTER COLUMN user_id DROP NOT NULL,
    ADD COLUMN service_identity_id uuid
        CONSTRAINT api_tokens_service_identity_fkey REFERENCES identity.service_identities (id),
    ADD CONSTRAINT api_tokens_owner_check CHECK (num_nonnulls(user_id, service_identity_id) = 1);
CREATE INDEX api_tokens_of_service_identity ON identity.api_tokens (service_identity_id, created_at DESC, id DESC)
    WHERE service_identity_id IS NOT NULL;
