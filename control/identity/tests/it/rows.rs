//! Principals, bindings and Groups in numbers, on top of the Domains that are there.

/// Rows enough that a plan which reads them all is the dearer one.
pub(crate) const MANY: [&str; 10] = [
    "INSERT INTO identity.users (id, domain_id, issuer, external_subject, display_name, created_at)
     SELECT gen_random_uuid(), d.id, 'https://idp.example', 's' || i, 'u', now() + i * interval '1 second'
     FROM (SELECT id FROM identity.domains LIMIT 50) AS d, generate_series(1, 200) AS i",
    "INSERT INTO identity.service_identities
         (id, domain_id, display_name, subject, audience, federation_kind, created_at)
     SELECT gen_random_uuid(), d.id, 's', 's' || i, 'a', 'api_token', now() + i * interval '1 second'
     FROM (SELECT id FROM identity.domains LIMIT 50) AS d, generate_series(1, 200) AS i",
    "INSERT INTO identity.api_tokens (id, user_id, env_prefix, digest, ttl_seconds, created_at, expires_at)
     SELECT gen_random_uuid(), id, 'dev', sha256(''), 60, now(), '2100-01-01'
     FROM identity.users, generate_series(1, 2)",
    "INSERT INTO identity.api_tokens (id, service_identity_id, env_prefix, digest, ttl_seconds, created_at, expires_at)
     SELECT gen_random_uuid(), id, 'dev', sha256(''), 60, now(), '2100-01-01'
     FROM identity.service_identities, generate_series(1, 2)",
    "INSERT INTO identity.idp_bindings (id, domain_id, issuer, client_id, client_secret_ref, discovery_url,
         claim_mappings, required_acr, required_amr, jit_policy, is_primary, status, created_at, updated_at)
     SELECT gen_random_uuid(), d.id, 'https://idp.example/' || i, 'c', 'secret:' || d.id || '/x', 'https://idp.example',
         '{}', '{}', '{}', 'deny', false, 'active', now(), now()
     FROM identity.domains AS d, generate_series(1, 4) AS i",
    "INSERT INTO identity.idp_bindings (id, issuer, client_id, client_secret_ref, discovery_url,
         claim_mappings, required_acr, required_amr, jit_policy, is_primary, status, created_at, updated_at)
     SELECT gen_random_uuid(), 'https://idp.example/' || i, 'c', 'env:X', 'https://idp.example',
         '{}', '{}', '{}', 'deny', false, 'active', now(), now() FROM generate_series(1, 4) AS i",
    "INSERT INTO identity.groups
         (id, domain_id, slug, display_name, source, idp_binding_id, idp_claim_value, created_at, updated_at)
     SELECT gen_random_uuid(), b.domain_id, 'g' || row_number() OVER (), 'g', 'idp', b.id, 'v' || i, now(), now()
     FROM (SELECT * FROM identity.idp_bindings WHERE domain_id IS NOT NULL ORDER BY domain_id LIMIT 1000) AS b,
         generate_series(1, 10) AS i",
    "INSERT INTO identity.memberships (group_id, principal_kind, principal_id, source, created_at)
     SELECT g.id, 'user', u.id, 'idp', now()
     FROM identity.groups AS g CROSS JOIN LATERAL (
         SELECT id FROM identity.users WHERE id > g.id ORDER BY id LIMIT 5) AS u",
    "INSERT INTO identity.memberships (group_id, principal_kind, principal_id, source, created_at)
     SELECT g.id, 'group', h.id, 'idp', now()
     FROM identity.groups AS g CROSS JOIN LATERAL (
         SELECT id FROM identity.groups WHERE id > g.id ORDER BY id LIMIT 2) AS h",
    "ANALYZE identity.users, identity.service_identities, identity.api_tokens, identity.idp_bindings, identity.groups,
         identity.memberships",
];
