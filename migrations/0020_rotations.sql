-- One request to replace a node's Curve25519 key. Nobody's time runs out: it is pending until the node has offered a new
-- key or its peer has ended.
CREATE TABLE mesh.peer_key_rotations (
    rotation_id      uuid PRIMARY KEY,
    peer_id          uuid NOT NULL REFERENCES mesh.peers (peer_id),
    state            text NOT NULL CHECK (state IN ('pending', 'completed', 'cancelled')),
    requested_at     timestamptz NOT NULL,
    ended_at         timestamptz,
    -- The key that was installed, and the names that the node was told with it: an answer that was lost is given again
    -- as it was, whatever has become of the seed since. The version names a wrap key in the receipt and seals nothing.
    public_key       bytea CHECK (octet_length(public_key) = 32),
    kid              text,
    wrap_key_version integer,
    CHECK ((state = 'pending') = (ended_at IS NULL)),
    CHECK (num_nonnulls(public_key, kid, wrap_key_version) = CASE state WHEN 'completed' THEN 3 ELSE 0 END)
);
CREATE UNIQUE INDEX peer_key_rotations_pending ON mesh.peer_key_rotations (peer_id) WHERE state = 'pending';
CREATE INDEX peer_key_rotations_completed ON mesh.peer_key_rotations (peer_id, ended_at) WHERE state = 'completed';
