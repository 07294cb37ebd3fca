-- === Whatever names a Project and a Domain names the Project's own Domain ===

ALTER TABLE identity.projects ADD CONSTRAINT projects_home_key UNIQUE (id, domain_id);
ALTER TABLE identity.sub_ranges
    DROP CONSTRAINT sub_ranges_project_id_fkey,
    ADD CONSTRAINT sub_ranges_project_fkey FOREIGN KEY (project_id, domain_id)
        REFERENCES identity.projects (id, domain_id) ON DELETE CASCADE;
ALTER TABLE identity.resources
    DROP CONSTRAINT resources_project_fkey,
    ADD CONSTRAINT resources_project_fkey FOREIGN KEY (project_id, domain_id)
        REFERENCES identity.projects (id, domain_id),
    ADD CONSTRAINT resources_home_key UNIQUE (id, project_id, domain_id);
ALTER TABLE identity.bootstrap_tokens
    DROP CONSTRAINT bootstrap_tokens_project_fkey,
    ADD CONSTRAINT bootstrap_tokens_project_fkey FOREIGN KEY (project_id, domain_id)
        REFERENCES identity.projects (id, domain_id) ON DELETE CASCADE;

-- A Node is tied to its Resource for as long as it is live; an ended one outlives it.
ALTER TABLE identity.nodes
    ADD COLUMN live_resource_id uuid
        GENERATED ALWAYS AS (CASE WHEN deregistered_at IS NULL THEN resource_id END) STORED,
    ADD CONSTRAINT nodes_resource_fkey FOREIGN KEY (live_resource_id, project_id, domain_id)
        REFERENCES identity.resources (id, project_id, domain_id);
CREATE INDEX nodes_live_resource ON identity.nodes (live_resource_id) WHERE live_resource_id IS NOT NULL;

-- === The rules of the rows themselves ===

ALTER TABLE identity.domains
    ADD CONSTRAINT domains_name_check CHECK (char_length(name) BETWEEN 1 AND 255),
    ADD CONSTRAINT domains_slug_check CHECK (slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$' AND char_length(slug) <= 64),
    ADD CONSTRAINT domains_description_check CHECK (char_length(description) <= 1024),
    ADD CONSTRAINT domains_region_check CHECK (region ~ '^[a-z0-9]+(-[a-z0-9]+)*$' AND char_length(region) <= 64),
    -- Nanoseconds: 10 s to 1 h, each at least so many times the one before.
    ADD CONSTRAINT domains_reachability_check CHECK (
        heartbeat_interval_ns BETWEEN 10000000000 AND 3600000000000
        AND stale_after_ns BETWEEN 3 * heartbeat_interval_ns AND 3600000000000
        AND unreachable_after_ns BETWEEN 2 * stale_after_ns AND 3600000000000);
ALTER TABLE identity.projects
    ADD CONSTRAINT projects_name_check CHECK (char_length(name) BETWEEN 1 AND 255),
    ADD CONSTRAINT projects_slug_check CHECK (slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$' AND char_length(slug) <= 64),
    ADD CONSTRAINT projects_description_check CHECK (char_length(description) <= 1024);
ALTER TABLE identity.resources
    ADD CONSTRAINT resources_kind_check CHECK (char_length(kind) BETWEEN 1 AND 64),
    ADD CONSTRAINT resources_external_ref_check CHECK (char_length(external_ref) BETWEEN 1 AND 256);
