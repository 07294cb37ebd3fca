-- A private half rests sealed here, or as a version of the Domain's key in OpenBao's transit engine. That version keeps
-- its number when the key is destroyed; `trimmed_at` says when OpenBao has forgotten it.
ALTER TABLE signing.keys
    ADD COLUMN transit_version integer CHECK (transit_version > 0),
    ADD COLUMN trimmed_at timestamptz,
    -- When it was last asked whether live Nodes pin a retired key, and when some last did.
    ADD COLUMN pins_checked_at timestamptz,
    ADD COLUMN last_pinned_at timestamptz,
    DROP CONSTRAINT keys_custody_check,
    DROP CONSTRAINT keys_check,
    ADD CONSTRAINT keys_custody_check CHECK (custody IN ('wrapped', 'transit')),
    ADD CONSTRAINT keys_private_half CHECK (
        CASE custody
            WHEN 'wrapped' THEN transit_version IS NULL AND (state = 'destroyed') = (wrapped_seed IS NULL)
            ELSE transit_version IS NOT NULL AND wrapped_seed IS NULL
        END),
    ADD CONSTRAINT keys_trimmed CHECK (trimmed_at IS NULL OR (custody = 'transit' AND state = 'destroyed'));

CREATE UNIQUE INDEX keys_transit_version ON signing.keys (domain_id, transit_version) WHERE transit_version IS NOT NULL;
CREATE INDEX keys_untrimmed ON signing.keys (domain_id)
    WHERE custody = 'transit' AND state = 'destroyed' AND trimmed_at IS NULL;
CREATE INDEX keys_retired ON signing.keys (pins_checked_at) WHERE state = 'retired';
CREATE INDEX keys_wrapped ON signing.keys (wrap_key_version, kid) WHERE wrapped_seed IS NOT NULL;
CREATE INDEX keys_destroyed_in_use ON signing.keys (domain_id)
    WHERE state = 'destroyed' AND destroy_reason IN ('compromise', 'not_kept');
