-- The pool of a Domain, in which no endpoint can lie, and how long an observed endpoint is fresh.
ALTER TABLE mesh.domains
    ADD COLUMN pool            cidr,
    ADD COLUMN endpoint_ttl_ms bigint NOT NULL DEFAULT 300000 CHECK (endpoint_ttl_ms > 0);

DO $$
BEGIN
    IF to_regclass('identity.domains') IS NOT NULL THEN
        UPDATE mesh.domains AS d SET pool = i.mesh_cidr FROM identity.domains AS i WHERE i.id = d.domain_id;
    END IF;
END $$;

-- The mesh version with which the peer, its endpoint or its end last changed: a list of an older version lacks it.
ALTER TABLE mesh.peers ADD COLUMN changed_version bigint NOT NULL DEFAULT 0;
CREATE INDEX peers_changed ON mesh.peers (domain_id, changed_version);
DROP INDEX mesh.peers_live_list;
CREATE UNIQUE INDEX peers_live_list ON mesh.peers (domain_id, node_id) INCLUDE (peer_id, mesh_ip, public_key)
    WHERE deregistered_at IS NULL;

-- Where the Node of a live peer saw itself from outside. Written at every report, so beside the peer and not in its row.
-- It ends with its peer.
CREATE TABLE mesh.endpoints (
    peer_id     uuid PRIMARY KEY REFERENCES mesh.peers (peer_id),
    host        inet NOT NULL CHECK (masklen(host) = CASE family(host) WHEN 4 THEN 32 ELSE 128 END),
    port        integer NOT NULL CHECK (port BETWEEN 1 AND 65535),
    nat_type    text NOT NULL
        CHECK (nat_type IN ('full_cone', 'restricted', 'port_restricted', 'symmetric', 'unknown')),
    reported_at timestamptz NOT NULL,
    accepted_at timestamptz NOT NULL,
    stale_after timestamptz NOT NULL,
    stale       boolean NOT NULL DEFAULT false
) WITH (fillfactor = 60);
CREATE INDEX endpoints_due ON mesh.endpoints (stale_after) WHERE NOT stale;
