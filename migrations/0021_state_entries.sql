-- What is known about a Node under a key. `metadata` and `data` are written by the platform, `report` by the Node. The
-- rows end with the Node's Peer.
CREATE TABLE mesh.state_entries (
    node_id      uuid NOT NULL,
    kind         text COLLATE "C" NOT NULL CHECK (kind IN ('metadata', 'data', 'report')),
    key          text COLLATE "C" NOT NULL CHECK (key ~ '^[a-z][a-z0-9._-]{0,127}$'),
    value        text NOT NULL CHECK (octet_length(value) <= 4096),
    workload_tag text NOT NULL DEFAULT '' CHECK (octet_length(workload_tag) <= 4096),
    written_at   timestamptz NOT NULL,
    PRIMARY KEY (node_id, kind, key)
);

-- A number of its own for every change of a Node's entries, reports included: pulls know by it whether the text they
-- hold is the current one. A Node that never had an entry has no row.
CREATE SEQUENCE mesh.state_version;
CREATE TABLE mesh.state_versions (
    node_id uuid PRIMARY KEY,
    version bigint NOT NULL
) WITH (fillfactor = 60);
