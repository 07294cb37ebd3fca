CREATE SCHEMA rebac;

-- Which tuples there may be, as the schema's text says; a test holds the two equal. Permissions are not in here, so no
-- tuple can carry one.
CREATE TABLE rebac.relations (
    object_kind  text COLLATE "C" NOT NULL,
    relation     text COLLATE "C" NOT NULL,
    subject_kind text COLLATE "C" NOT NULL,
    -- The name behind `#`; empty for an object.
    subject_name text COLLATE "C" NOT NULL,
    class        text COLLATE "C" NOT NULL CHECK (class IN ('system', 'server', 'assignable', 'members')),
    PRIMARY KEY (object_kind, relation, subject_kind, subject_name, class)
);

-- How many tuple writes a scope has seen. A scope is a Domain's id, or the anchor of the platform's audit chain.
CREATE TABLE rebac.generations (
    scope      uuid PRIMARY KEY,
    generation bigint NOT NULL CHECK (generation > 0),
    -- The transaction that moved it: a reader that has seen everything below a snapshot's xmin looks at the rest only.
    moved_by   xid8 NOT NULL
);
CREATE INDEX generations_moved ON rebac.generations (moved_by);

CREATE TABLE rebac.tuples (
    id             uuid PRIMARY KEY,
    scope          uuid NOT NULL,
    -- The Project whose tuple administration the tuple is filed under.
    project_id     uuid,
    object_kind    text COLLATE "C" NOT NULL,
    -- Nil for a kind's only object.
    object_id      uuid NOT NULL,
    relation       text COLLATE "C" NOT NULL,
    subject_kind   text COLLATE "C" NOT NULL,
    subject_id     uuid NOT NULL,
    subject_name   text COLLATE "C" NOT NULL,
    class          text COLLATE "C" NOT NULL,
    caveat         text COLLATE "C" CHECK (caveat IN ('within_time_window', 'from_cidr', 'requires_assurance')),
    caveat_context jsonb CHECK (jsonb_typeof(caveat_context) = 'object'),
    created_at     timestamptz NOT NULL,
    CONSTRAINT tuples_triple_key UNIQUE (object_id, object_kind, relation, subject_id, subject_kind, subject_name),
    CONSTRAINT tuples_form_fkey FOREIGN KEY (object_kind, relation, subject_kind, subject_name, class)
        REFERENCES rebac.relations (object_kind, relation, subject_kind, subject_name, class),
    CONSTRAINT tuples_filed_check CHECK (project_id IS NULL OR class = 'assignable'),
    CONSTRAINT tuples_condition_check CHECK ((caveat IS NULL) = (caveat_context IS NULL)
        AND (caveat IS NULL OR class = 'assignable')),
    CONSTRAINT tuples_singleton_check CHECK (
        (object_kind IN ('platform', 'managementfleet')) = (object_id = '00000000-0000-0000-0000-000000000000')
        AND (subject_kind IN ('platform', 'managementfleet')) = (subject_id = '00000000-0000-0000-0000-000000000000'))
);
CREATE INDEX tuples_by_subject ON rebac.tuples (subject_id, subject_kind);
CREATE INDEX tuples_filed ON rebac.tuples (project_id, created_at, id) WHERE project_id IS NOT NULL;

-- What happened to the tuples of a scope, one row per generation. Written by the trigger below and nobody else.
CREATE TABLE rebac.changes (
    scope          uuid NOT NULL,
    generation     bigint NOT NULL,
    -- True for a tuple that came, false for one that went.
    present        boolean NOT NULL,
    object_kind    text COLLATE "C" NOT NULL,
    object_id      uuid NOT NULL,
    relation       text COLLATE "C" NOT NULL,
    subject_kind   text COLLATE "C" NOT NULL,
    subject_id     uuid NOT NULL,
    subject_name   text COLLATE "C" NOT NULL,
    caveat         text COLLATE "C",
    caveat_context jsonb,
    changed_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (scope, generation)
);
CREATE INDEX changes_by_age ON rebac.changes (changed_at);

-- The row lock on the generation is held until the commit, so that within a scope the order of generations is the order
-- of commits, and whoever reads a generation can read every change up to it.
CREATE FUNCTION rebac.log_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    tuple rebac.tuples;
    moved bigint;
BEGIN
    IF TG_OP = 'DELETE' THEN tuple := OLD; ELSE tuple := NEW; END IF;
    INSERT INTO rebac.generations AS g (scope, generation, moved_by) VALUES (tuple.scope, 1, pg_current_xact_id())
        ON CONFLICT (scope) DO UPDATE SET generation = g.generation + 1, moved_by = pg_current_xact_id()
        RETURNING g.generation INTO moved;
    INSERT INTO rebac.changes (scope, generation, present, object_kind, object_id, relation, subject_kind, subject_id,
                               subject_name, caveat, caveat_context)
        VALUES (tuple.scope, moved, TG_OP = 'INSERT', tuple.object_kind, tuple.object_id, tuple.relation,
                tuple.subject_kind, tuple.subject_id, tuple.subject_name, tuple.caveat, tuple.caveat_context);
    PERFORM pg_notify('plexsphere_rebac', '');
    RETURN NULL;
END $$;
CREATE TRIGGER tuples_log AFTER INSERT OR DELETE ON rebac.tuples FOR EACH ROW EXECUTE FUNCTION rebac.log_change();

-- A tuple is replaced by taking it away and writing another: an update would leave no change behind.
CREATE FUNCTION rebac.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of % are written and deleted, never changed', TG_TABLE_NAME;
END $$;
CREATE TRIGGER tuples_fixed BEFORE UPDATE OR TRUNCATE ON rebac.tuples EXECUTE FUNCTION rebac.refuse_change();

INSERT INTO rebac.relations (object_kind, relation, subject_kind, subject_name, class) VALUES
    ('platform', 'admin', 'user', '', 'server'),
    ('platform', 'admin', 'serviceaccount', '', 'server'),
    ('platform', 'operator', 'user', '', 'server'),
    ('platform', 'operator', 'serviceaccount', '', 'server'),
    ('platform', 'auditor', 'user', '', 'server'),
    ('platform', 'auditor', 'serviceaccount', '', 'server'),
    ('platform', 'reader', 'user', '', 'server'),
    ('platform', 'reader', 'serviceaccount', '', 'server'),
    ('platform', 'reader', 'group', 'member', 'server'),
    ('platform', 'tenant', 'domain', 'read', 'system'),
    ('domain', 'parent', 'platform', '', 'system'),
    ('domain', 'admin', 'user', '', 'assignable'),
    ('domain', 'admin', 'serviceaccount', '', 'assignable'),
    ('domain', 'admin', 'group', 'member', 'assignable'),
    ('domain', 'maintainer', 'user', '', 'assignable'),
    ('domain', 'maintainer', 'serviceaccount', '', 'assignable'),
    ('domain', 'maintainer', 'group', 'member', 'assignable'),
    ('domain', 'operator', 'user', '', 'assignable'),
    ('domain', 'operator', 'serviceaccount', '', 'assignable'),
    ('domain', 'operator', 'group', 'member', 'assignable'),
    ('domain', 'member', 'user', '', 'assignable'),
    ('domain', 'member', 'serviceaccount', '', 'assignable'),
    ('domain', 'member', 'group', 'member', 'assignable'),
    ('domain', 'auditor', 'user', '', 'assignable'),
    ('domain', 'auditor', 'serviceaccount', '', 'assignable'),
    ('domain', 'auditor', 'group', 'member', 'assignable'),
    ('domain', 'approver', 'user', '', 'assignable'),
    ('domain', 'approver', 'serviceaccount', '', 'assignable'),
    ('domain', 'approver', 'group', 'member', 'assignable'),
    ('domain', 'emergency_approver', 'user', '', 'assignable'),
    ('domain', 'emergency_approver', 'serviceaccount', '', 'assignable'),
    ('domain', 'emergency_approver', 'group', 'member', 'assignable'),
    ('project', 'parent', 'domain', '', 'system'),
    ('project', 'node', 'node', '', 'system'),
    ('project', 'secret_consumer', 'node', '', 'assignable'),
    ('project', 'secret_consumer', 'project', 'node', 'assignable'),
    ('project', 'admin', 'user', '', 'assignable'),
    ('project', 'admin', 'serviceaccount', '', 'assignable'),
    ('project', 'admin', 'group', 'member', 'assignable'),
    ('project', 'maintainer', 'user', '', 'assignable'),
    ('project', 'maintainer', 'serviceaccount', '', 'assignable'),
    ('project', 'maintainer', 'group', 'member', 'assignable'),
    ('project', 'operator', 'user', '', 'assignable'),
    ('project', 'operator', 'serviceaccount', '', 'assignable'),
    ('project', 'operator', 'group', 'member', 'assignable'),
    ('project', 'member', 'user', '', 'assignable'),
    ('project', 'member', 'serviceaccount', '', 'assignable'),
    ('project', 'member', 'group', 'member', 'assignable'),
    ('project', 'viewer', 'user', '', 'assignable'),
    ('project', 'viewer', 'serviceaccount', '', 'assignable'),
    ('project', 'viewer', 'group', 'member', 'assignable'),
    ('resource', 'parent', 'project', '', 'system'),
    ('resource', 'owner', 'user', '', 'assignable'),
    ('resource', 'owner', 'serviceaccount', '', 'assignable'),
    ('resource', 'owner', 'group', 'member', 'assignable'),
    ('resource', 'viewer', 'user', '', 'assignable'),
    ('resource', 'viewer', 'serviceaccount', '', 'assignable'),
    ('resource', 'viewer', 'group', 'member', 'assignable'),
    ('resource', 'operator', 'user', '', 'assignable'),
    ('resource', 'operator', 'serviceaccount', '', 'assignable'),
    ('resource', 'operator', 'group', 'member', 'assignable'),
    ('node', 'parent', 'resource', '', 'system'),
    ('node', 'operator', 'user', '', 'assignable'),
    ('node', 'operator', 'serviceaccount', '', 'assignable'),
    ('node', 'operator', 'group', 'member', 'assignable'),
    ('policy', 'parent', 'project', '', 'system'),
    ('policy', 'manager', 'user', '', 'assignable'),
    ('policy', 'manager', 'serviceaccount', '', 'assignable'),
    ('policy', 'manager', 'group', 'member', 'assignable'),
    ('policy', 'editor', 'user', '', 'assignable'),
    ('policy', 'editor', 'serviceaccount', '', 'assignable'),
    ('policy', 'editor', 'group', 'member', 'assignable'),
    ('policy', 'viewer', 'user', '', 'assignable'),
    ('policy', 'viewer', 'serviceaccount', '', 'assignable'),
    ('policy', 'viewer', 'group', 'member', 'assignable'),
    ('secret', 'parent', 'project', '', 'system'),
    ('secret', 'reader', 'node', '', 'assignable'),
    ('secret', 'reader', 'project', 'node', 'assignable'),
    ('group', 'parent', 'domain', '', 'system'),
    ('group', 'member', 'user', '', 'members'),
    ('group', 'member', 'serviceaccount', '', 'members'),
    ('group', 'member', 'group', 'member', 'members'),
    ('user', 'parent', 'domain', '', 'system'),
    ('user', 'parent', 'platform', '', 'system'),
    ('serviceaccount', 'parent', 'domain', '', 'system'),
    ('cloud', 'parent', 'platform', '', 'system'),
    ('cloud', 'admin', 'user', '', 'server'),
    ('cloud', 'admin', 'serviceaccount', '', 'server'),
    ('cloud', 'viewer', 'user', '', 'server'),
    ('cloud', 'viewer', 'serviceaccount', '', 'server'),
    ('cloud', 'assigner', 'user', '', 'server'),
    ('cloud', 'assigner', 'serviceaccount', '', 'server'),
    ('cloud', 'uses', 'project', 'deploy', 'system'),
    ('cloud_credential', 'parent', 'cloud', '', 'system'),
    ('cloud_credential', 'uses', 'project', 'deploy', 'system'),
    ('blueprint', 'parent', 'platform', '', 'system'),
    ('blueprint', 'parent', 'domain', '', 'system'),
    ('blueprint', 'owner', 'user', '', 'system'),
    ('blueprint', 'owner', 'serviceaccount', '', 'system'),
    ('blueprint', 'publisher', 'user', '', 'server'),
    ('blueprint', 'publisher', 'serviceaccount', '', 'server'),
    ('blueprint', 'publisher', 'group', 'member', 'server'),
    ('blueprint', 'user', 'platform', 'browse', 'system'),
    ('blueprint', 'user', 'domain', 'read', 'system'),
    ('managementfleet', 'parent', 'platform', '', 'system'),
    ('managementfleet', 'admin', 'user', '', 'server'),
    ('managementfleet', 'admin', 'serviceaccount', '', 'server'),
    ('managementfleet', 'viewer', 'user', '', 'server'),
    ('managementfleet', 'viewer', 'serviceaccount', '', 'server'),
    ('managementcluster', 'fleet', 'managementfleet', '', 'system'),
    ('label_definition', 'scope', 'platform', '', 'system'),
    ('label_definition', 'scope', 'domain', '', 'system'),
    ('label_definition', 'scope', 'project', '', 'system');
