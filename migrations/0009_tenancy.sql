-- === Sub-ranges lie inside their Domain's pool ===

-- The row carries the pool, which follows the Domain's, so that a pool that moves away from under a sub-range is refused
-- by the database, whoever moves it.
ALTER TABLE identity.domains ADD CONSTRAINT domains_pool_key UNIQUE (id, mesh_cidr);
ALTER TABLE identity.sub_ranges ADD COLUMN pool cidr;
UPDATE identity.sub_ranges AS s SET pool = d.mesh_cidr FROM identity.domains AS d WHERE d.id = s.domain_id;
ALTER TABLE identity.sub_ranges
    ALTER COLUMN pool SET NOT NULL,
    ADD CONSTRAINT sub_ranges_pool_fkey FOREIGN KEY (domain_id, pool)
        REFERENCES identity.domains (id, mesh_cidr) ON UPDATE CASCADE,
    ADD CONSTRAINT sub_ranges_inside_pool CHECK (range <<= pool);

-- === Principals ===

-- Equality and uniqueness of texts that may be longer than an index entry. Converting to UTF-8 is immutable for a given
-- encoding of the database, which PostgreSQL cannot know by itself.
CREATE FUNCTION identity.text_digest(content text) RETURNS bytea
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN sha256(convert_to(content, 'UTF8'));

-- `updated_at` moves when a sign-in brings another name or address. A verified address is an address.
ALTER TABLE identity.users ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now();
UPDATE identity.users SET updated_at = created_at;
ALTER TABLE identity.users
    ADD CONSTRAINT users_display_name_check CHECK (char_length(display_name) BETWEEN 1 AND 256),
    ADD CONSTRAINT users_subject_check CHECK (char_length(external_subject) BETWEEN 1 AND 255),
    ADD CONSTRAINT users_email_check CHECK (email IS NOT NULL OR NOT email_verified);
CREATE INDEX users_by_creation ON identity.users (domain_id, created_at, id);

-- Nothing of a ServiceIdentity ever changes.
CREATE TABLE identity.service_identities (
    id              uuid PRIMARY KEY,
    domain_id       uuid NOT NULL CONSTRAINT service_identities_domain_fkey REFERENCES identity.domains (id),
    display_name    text NOT NULL CHECK (char_length(display_name) BETWEEN 1 AND 256),
    subject         text NOT NULL CHECK (char_length(subject) BETWEEN 1 AND 2048),
    audience        text NOT NULL CHECK (char_length(audience) BETWEEN 1 AND 256),
    federation_kind text NOT NULL CHECK (federation_kind IN ('oidc_cc', 'spiffe_svid', 'api_token')),
    created_at      timestamptz NOT NULL,
    CHECK (federation_kind <> 'spiffe_svid' OR starts_with(subject, 'spiffe://'))
);
CREATE UNIQUE INDEX service_identities_subject_key
    ON identity.service_identities (domain_id, identity.text_digest(subject));
CREATE INDEX service_identities_by_creation ON identity.service_identities (domain_id, created_at, id);

-- === Invitations ===

-- Whom it is for is sealed; the pseudonym is what readers see, and the match key is what a sign-in is compared with.
-- The User who accepted may be purged later, so no foreign key stands on it.
CREATE TABLE identity.invitations (
    id               uuid PRIMARY KEY,
    domain_id        uuid NOT NULL
        CONSTRAINT invitations_domain_fkey REFERENCES identity.domains (id) ON DELETE CASCADE,
    sealed_subject   bytea NOT NULL,
    wrap_key_version integer NOT NULL,
    pseudonym        bytea NOT NULL CHECK (octet_length(pseudonym) = 32),
    match_key        bytea NOT NULL CHECK (octet_length(match_key) = 32),
    initial_tuples   json NOT NULL CHECK (json_array_length(initial_tuples) <= 32),
    status           text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'accepted', 'revoked', 'expired')),
    created_at       timestamptz NOT NULL,
    expires_at       timestamptz NOT NULL,
    accepted_at      timestamptz,
    accepted_user_id uuid,
    revoked_at       timestamptz,
    expired_at       timestamptz,
    CHECK (expires_at > created_at),
    CHECK ((status = 'accepted') = (accepted_at IS NOT NULL)),
    CHECK ((status = 'accepted') = (accepted_user_id IS NOT NULL)),
    CHECK ((status = 'revoked') = (revoked_at IS NOT NULL)),
    CHECK ((status = 'expired') = (expired_at IS NOT NULL))
);
CREATE UNIQUE INDEX invitations_pending_key ON identity.invitations (domain_id, match_key) WHERE status = 'pending';
CREATE INDEX invitations_by_creation ON identity.invitations (domain_id, created_at, id);
CREATE INDEX invitations_by_status ON identity.invitations (domain_id, status, created_at, id);
CREATE INDEX invitations_due ON identity.invitations (expires_at) WHERE status = 'pending';

-- Whoever connects: an invitation that has ended stays as it ended.
CREATE FUNCTION identity.keep_ended_invitation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'invitation % has ended', OLD.id USING ERRCODE = '42501';
END $$;
CREATE TRIGGER invitations_end_once BEFORE UPDATE ON identity.invitations
    FOR EACH ROW WHEN (OLD.status <> 'pending') EXECUTE FUNCTION identity.keep_ended_invitation();

-- === Nodes ===

CREATE INDEX nodes_by_creation ON identity.nodes (created_at, id) WHERE deregistered_at IS NULL;
CREATE INDEX nodes_of_domain ON identity.nodes (domain_id, created_at, id) WHERE deregistered_at IS NULL;
