-- What replicas remember of a Node or a Domain, they forget when they hear its key in the directory.
CREATE FUNCTION kernel.tell_directory_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('plexsphere_changes', NEW.key);
    RETURN NULL;
END $$;
CREATE TRIGGER directory_changes_told AFTER INSERT ON kernel.directory_changes
    FOR EACH ROW EXECUTE FUNCTION kernel.tell_directory_change();
