-- What was made before there were relation tuples gets the tuples that its making would have written. Whoever administered
-- the platform administers the Domains that stand: they were the only ones who could, and nobody else could be asked.

WITH edges (scope, object_kind, object_id, relation, subject_kind, subject_id, subject_name) AS (
    SELECT '00000000-0000-7000-8000-000000000001'::uuid, 'platform', '00000000-0000-0000-0000-000000000000'::uuid,
           'admin', 'user', user_id, '' FROM identity.platform_admins
    UNION ALL
    SELECT '00000000-0000-7000-8000-000000000001', 'platform', '00000000-0000-0000-0000-000000000000',
           'tenant', 'domain', id, 'read' FROM identity.domains
    UNION ALL
    SELECT id, 'domain', id, 'parent', 'platform', '00000000-0000-0000-0000-000000000000', '' FROM identity.domains
    UNION ALL
    SELECT d.id, 'domain', d.id, 'admin', 'user', a.user_id, '' FROM identity.domains d, identity.platform_admins a
    UNION ALL
    SELECT domain_id, 'project', id, 'parent', 'domain', domain_id, '' FROM identity.projects
    UNION ALL
    SELECT domain_id, 'resource', id, 'parent', 'project', project_id, '' FROM identity.resources
    UNION ALL
    SELECT domain_id, 'node', id, 'parent', 'resource', resource_id, '' FROM identity.nodes WHERE deregistered_at IS NULL
    UNION ALL
    SELECT domain_id, 'project', project_id, 'node', 'node', id, '' FROM identity.nodes WHERE deregistered_at IS NULL
)
INSERT INTO rebac.tuples (id, scope, object_kind, object_id, relation, subject_kind, subject_id, subject_name, class,
                          created_at)
SELECT gen_random_uuid(), e.*, r.class, now()
FROM edges e
JOIN rebac.relations r ON r.object_kind = e.object_kind AND r.relation = e.relation
    AND r.subject_kind = e.subject_kind AND r.subject_name = e.subject_name
ORDER BY e.scope
ON CONFLICT ON CONSTRAINT tuples_triple_key DO NOTHING;
