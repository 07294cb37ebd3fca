-- As for the directory: heads of Nodes and Domains that replicas remember.
CREATE FUNCTION mesh.tell_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME = 'domains' THEN
        PERFORM pg_notify('plexsphere_changes', 'domain.' || COALESCE(NEW.domain_id, OLD.domain_id));
    ELSE
        PERFORM pg_notify('plexsphere_changes', 'node.' || COALESCE(NEW.node_id, OLD.node_id));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER domains_told AFTER INSERT OR UPDATE OR DELETE ON mesh.domains
    FOR EACH ROW EXECUTE FUNCTION mesh.tell_change();
CREATE TRIGGER state_versions_told AFTER INSERT OR UPDATE OR DELETE ON mesh.state_versions
    FOR EACH ROW EXECUTE FUNCTION mesh.tell_change();
CREATE TRIGGER peers_told AFTER INSERT OR DELETE OR UPDATE OF node_version, deregistered_at ON mesh.peers
    FOR EACH ROW EXECUTE FUNCTION mesh.tell_change();
