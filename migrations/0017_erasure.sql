-- Principals that may not authenticate for the time being.
ALTER TABLE identity.users ADD COLUMN suspended_at timestamptz;
ALTER TABLE identity.service_identities ADD COLUMN suspended_at timestamptz;

-- Whom an invitation was for rests sealed only while it may still be accepted. What ended keeps keyed hashes alone.
DROP TRIGGER invitations_end_once ON identity.invitations;
ALTER TABLE identity.invitations
    ALTER COLUMN sealed_subject DROP NOT NULL,
    ALTER COLUMN wrap_key_version DROP NOT NULL;
UPDATE identity.invitations SET sealed_subject = NULL, wrap_key_version = NULL WHERE status <> 'pending';
ALTER TABLE identity.invitations
    ADD CONSTRAINT invitations_sealed_check CHECK ((sealed_subject IS NOT NULL) = (status = 'pending')),
    ADD CONSTRAINT invitations_wrapped_check CHECK ((sealed_subject IS NULL) = (wrap_key_version IS NULL));
CREATE TRIGGER invitations_end_once BEFORE UPDATE ON identity.invitations
    FOR EACH ROW WHEN (OLD.status <> 'pending') EXECUTE FUNCTION identity.keep_ended_invitation();

-- Whoever ends it, by whatever statement.
CREATE FUNCTION identity.drop_sealed_subject() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.sealed_subject := NULL;
    NEW.wrap_key_version := NULL;
    RETURN NEW;
END $$;
CREATE TRIGGER invitations_unsealed BEFORE UPDATE ON identity.invitations
    FOR EACH ROW WHEN (OLD.status = 'pending' AND NEW.status <> 'pending')
    EXECUTE FUNCTION identity.drop_sealed_subject();
