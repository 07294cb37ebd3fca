CREATE SCHEMA mesh;

-- What the mesh knows of a Domain: its thresholds, and the version of its peer projection.
CREATE TABLE mesh.domains (
    domain_id             uuid PRIMARY KEY,
    mesh_version          bigint NOT NULL DEFAULT 0,
    mesh_version_at       timestamptz NOT NULL,
    heartbeat_interval_ms bigint NOT NULL DEFAULT 30000 CHECK (heartbeat_interval_ms > 0),
    stale_after_ms        bigint NOT NULL DEFAULT 90000,
    unreachable_after_ms  bigint NOT NULL DEFAULT 300000,
    CHECK (heartbeat_interval_ms <= stale_after_ms AND stale_after_ms <= unreachable_after_ms)
);

-- An address is here while it is allocated or cooling; freeing it deletes the row.
CREATE TABLE mesh.allocations (
    domain_id     uuid NOT NULL,
    ip            inet NOT NULL CHECK (masklen(ip) = CASE family(ip) WHEN 4 THEN 32 ELSE 128 END),
    node_id       uuid NOT NULL,
    allocated_at  timestamptz NOT NULL,
    cooling_until timestamptz,
    PRIMARY KEY (domain_id, ip)
);
CREATE INDEX allocations_cooling ON mesh.allocations (cooling_until) WHERE cooling_until IS NOT NULL;

-- Nothing below `floor` is free in `range`, the ranges in `reserved` aside. A hint that saves walking over the
-- addresses in use; it starts again from the bottom when `reserved` changes.
CREATE TABLE mesh.allocation_floors (
    domain_id uuid NOT NULL,
    range     cidr NOT NULL,
    reserved  text NOT NULL,
    floor     inet NOT NULL,
    PRIMARY KEY (domain_id, range)
);

CREATE TABLE mesh.peers (
    peer_id           uuid PRIMARY KEY,
    node_id           uuid NOT NULL,
    domain_id         uuid NOT NULL,
    project_id        uuid NOT NULL,
    public_key        bytea NOT NULL CHECK (octet_length(public_key) = 32),
    mesh_ip           inet NOT NULL,
    node_version      bigint NOT NULL DEFAULT 1,
    node_version_at   timestamptz NOT NULL,
    created_at        timestamptz NOT NULL,
    deregistered_at   timestamptz,
    deregister_reason text,
    CHECK ((deregistered_at IS NULL) = (deregister_reason IS NULL))
);
CREATE UNIQUE INDEX peers_live_node ON mesh.peers (node_id) WHERE deregistered_at IS NULL;
CREATE UNIQUE INDEX peers_live_key ON mesh.peers (domain_id, public_key) WHERE deregistered_at IS NULL;
CREATE UNIQUE INDEX peers_live_list ON mesh.peers (domain_id, node_id) INCLUDE (mesh_ip, public_key)
    WHERE deregistered_at IS NULL;

-- The seed of a peer's pre-shared keys, sealed. The row ends with its peer.
CREATE TABLE mesh.psk_epochs (
    kid              text PRIMARY KEY,
    peer_id          uuid NOT NULL REFERENCES mesh.peers (peer_id),
    sealed           bytea NOT NULL,
    wrap_key_version integer NOT NULL,
    created_at       timestamptz NOT NULL
);
CREATE UNIQUE INDEX psk_epochs_current ON mesh.psk_epochs (peer_id);

-- One row per live peer, written at every heartbeat: room for in-page updates, and no index on what changes.
CREATE TABLE mesh.reachability (
    node_id           uuid PRIMARY KEY,
    domain_id         uuid NOT NULL,
    state             text NOT NULL CHECK (state IN ('healthy', 'stale', 'unreachable')),
    changed_at        timestamptz NOT NULL,
    last_heartbeat_at timestamptz,
    -- The state that the last NodeReachabilityChanged told of.
    told_state        text NOT NULL CHECK (told_state IN ('healthy', 'stale', 'unreachable')),
    binary_checksum   text,
    binary_version    text,
    nat_summary       text
) WITH (fillfactor = 60);

-- The versions that a Node's last pulls carried.
CREATE TABLE mesh.served_versions (
    node_id      uuid PRIMARY KEY,
    mesh_version bigint NOT NULL,
    node_version bigint NOT NULL
) WITH (fillfactor = 60);
